"""A finished run of tasks under the verbs that read a model: they score answers, and refuse what needs text."""

import json
from dataclasses import replace
from types import SimpleNamespace

import micro
import pytest
from micro import no_figures_fixture  # noqa: F401
from test_train_tasks import done_fixture, lively  # noqa: F401

from harness.__main__ import main
from harness.data import corpora, rows
from harness.evaluate import val
from harness.evaluate.own_model import OwnModel
from harness.launch.scores import Subject, refusal
from harness.plan.compose import compose


@pytest.mark.slow
def test_verify_generates_the_data_again_and_finds_another_difficulty(done, tmp_path, monkeypatch, capsys, no_figures):
    assert main(["verify", str(done()), "steps=0"]) == 0
    assert "generated again as the plan says" in " ".join(capsys.readouterr().out.split())

    monkeypatch.setattr(rows, "_SAMPLES", {})
    monkeypatch.setattr(rows, "SAMPLE_ROWS", 7)  # as other generators would: other rows of the sample
    assert main(["verify", str(done()), "steps=0"]) == 1
    assert "has not the hashes of the record" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_evaluate_scores_a_run_on_its_own_tasks_and_says_what_it_cannot_have(done, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main(["evaluate", str(done()), "--val", "--out", str(out)]) == 0
    said, found = capsys.readouterr().out, json.loads(out.read_text())
    whole = corpora.load_for(compose(micro.TASKS).plan)
    assert found["scores"]["val"]["targets"] == found["scores"]["val"]["bytes"] == int(whole.answer_N.sum())
    assert found["scores"]["val"]["sha256"] == whole.hashes["val"] and found["model"]["tokenizer"] == "tasks"
    assert found["scores"]["val"]["protocol"] == f"physics-{whole.hashes['val'][:12]}"
    assert "answers, one counts as a byte" in said and "val bits/answer" in said and "bpb" not in said
    assert main(["evaluate", str(done())]) == 0
    said = capsys.readouterr().out
    assert "left out: wikitext" in said and "left out: core" in said
    for word in ("--core", "--val=tiny", "tasks=arc_easy"):
        assert main(
            ["evaluate", str(done()), *word.split("=", 1)] if word.startswith("--v") else ["evaluate", str(done()), word]
        )


def test_the_interface_scores_answers_as_training_does():

    built = lively()
    own = OwnModel(built.model)
    hidden = SimpleNamespace(context=own.context, vocab_size=own.vocab_size, score=own.score)
    found = corpora.load_val(corpora.wanted_by(built.plan))
    short = replace(found, tokens=found.tokens[:1025])
    ours, theirs = (val.score_val(model, short) for model in (own, hidden))
    assert theirs.bpb() == pytest.approx(ours.bpb(), rel=1e-6) and theirs.loss() == pytest.approx(ours.loss(), rel=1e-6)
    assert ours.targets == theirs.targets == int(found.answer_N[:1025].sum())


@pytest.mark.parametrize("track, named", [("physics", "tiny"), ("tiny", "physics")])
def test_val_of_another_kind_of_track_is_refused(track, named):
    subject = Subject("run", None, None, {}, compose([f"lane={track}-dense"]).plan)
    assert f"track {named} is of {'tasks' if named == 'physics' else 'bytes'}" in str(
        refusal("val", subject, SimpleNamespace(val=named))
    )


@pytest.mark.slow
def test_sample_refuses_a_run_without_text_and_export_says_what_its_ids_are(done, tmp_path, capsys):
    assert main(["sample", str(done())]) == 2
    assert "generated tasks (track physics)" in capsys.readouterr().err
    assert main(["export", str(done()), f"out={tmp_path / 'out'}"]) == 0
    page = (tmp_path / "out" / "README.md").read_text()
    assert "ids of generated tasks (copy)" in page and "bits per answer of val" in page and "AutoTokenizer" not in page
    assert not list((tmp_path / "out").glob("tokenizer*"))
