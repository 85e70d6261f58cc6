"""`evaluate`: who may be scored, and what is printed and written. The score itself: test_evaluate_wikitext.py."""

import json
import math
from types import SimpleNamespace

import core_bundle
import micro
import pytest
import torch
from micro import finished_fixture, no_figures_fixture  # noqa: F401

import harness.verbs.evaluate as evaluate
from harness.__main__ import main
from harness.evaluate import wikitext
from harness.evaluate.core import bundle, tasks
from harness.evaluate.own_model import OwnModel
from harness.launch.run_model import load_run_model

TEXT = " \n = First = \n \n A page , of two lines . \n = Second = \n \n Another . \n"


class Uniform:
    context, vocab_size, packs = 8, 257, True

    def score(self, input_BS, target_BS, position_BS=None, visible_BSS=None):
        return torch.full(input_BS.shape, math.log(self.vocab_size)), torch.zeros(input_BS.shape, dtype=torch.bool)


def scored(model, tokenizer):
    return wikitext.merge([wikitext.share(model, tokenizer, TEXT)], model.context)


@pytest.fixture
def uniform(monkeypatch):
    """`evaluate hf:...` scores a model that knows nothing, on two pages, with bytes for tokens."""
    tokenizer = SimpleNamespace(encode=lambda text: list(text.encode()), end_of_text=256, hash="bytes")
    facts = {"parameters": 10, "device": "cpu", "dtype": "float32"}
    monkeypatch.setattr(evaluate, "_hub_subject", lambda word: evaluate.Subject(word, Uniform(), tokenizer, facts))
    monkeypatch.setattr(wikitext, "raw_text", lambda: TEXT)
    return scored(Uniform(), tokenizer)


def test_the_score_stands_above_the_anchors_of_its_protocol_and_no_others(uniform, capsys):
    assert main(["evaluate", "hf:x/y", "--wikitext"]) == 0
    said = capsys.readouterr().out.splitlines()
    (mine,) = [line for line in said if "this model" in line]
    assert f"{uniform.bits_per_byte:.4f}" in mine and f"{uniform.bytes_P.sum()} bytes, 2 pages" in mine
    anchors = said[said.index(mine) + 1 :]
    assert [line.split()[0] for line in anchors] == [
        "llama2-7b-wikitext",
        "gpt2-124m-wikitext",
        "gpt2-124m-openwebtext-wikitext",
    ]
    assert "0.9769" in anchors[1] and "37.3698" in anchors[1] and all("published: " in line for line in anchors)


def test_the_file_holds_protocol_sums_of_every_page_and_what_was_scored(uniform, tmp_path, capsys):
    out = tmp_path / "new" / "scores.json"
    assert main(["evaluate", "hf:x/y", "--wikitext", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    found = written["scores"]["wikitext"]
    assert found["protocol"] == "wikitext-lmeval" and found["sha256"] == wikitext.SHA256 and found["context"] == 8
    assert [page["nats"] for page in found["pages"]] == uniform.nats_P.tolist()
    assert found["bits_per_byte"] == pytest.approx(found["nats"] / found["bytes"] / math.log(2)) == uniform.bits_per_byte
    assert written["model"]["name"] == "hf:x/y" and written["provenance"]["versions"]["torch"]


def test_the_same_model_gives_the_same_bits(uniform, tmp_path):
    for name in "ab":
        assert main(["evaluate", "hf:x/y", "--wikitext", "--out", str(tmp_path / name)]) == 0
    a, b = (json.loads((tmp_path / name).read_text()) for name in "ab")
    assert a["scores"] == b["scores"]


def test_a_perplexity_beyond_floats_is_null_in_the_file(uniform, tmp_path, monkeypatch):
    monkeypatch.setattr(Uniform, "score", lambda self, input_BS, *_: (torch.full(input_BS.shape, 500.0), None))
    assert main(["evaluate", "hf:x/y", "--wikitext", "--out", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["scores"]["wikitext"]["word_perplexity"] is None


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_a_clear_error(uniform, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["evaluate", "hf:x/y", "--wikitext", "--out", str(tmp_path / "file" / "scores.json")]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_run_of_bytes_is_refused_naming_both_vocabularies(finished, capsys):
    before = micro.snapshot(finished())
    assert main(["evaluate", str(finished()), "--wikitext"]) == 2
    said = capsys.readouterr().err
    assert "vocabulary of 256 (track tiny)" in said and "50,257" in said
    assert micro.snapshot(finished()) == before


@pytest.mark.slow
def test_a_run_with_gpt2s_vocabulary_is_scored_as_its_own_model_scores(tmp_path, monkeypatch, capsys, no_figures):
    """Trained on bytes, for want of another corpus here: what counts is that its own weights answer."""
    words = ("model.vocab_size=50304", "budget.tokens=512", "validation.steps=[1]")
    run = micro.run(tmp_path / "runs", *words, lane=micro.DENSE)
    tokenizer = SimpleNamespace(encode=lambda text: list(text.encode()), end_of_text=256, hash="bytes")
    monkeypatch.setattr("harness.data.tokenizer.gpt2", lambda: tokenizer)
    monkeypatch.setattr(wikitext, "raw_text", lambda: TEXT)
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(run), "--wikitext", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    expected = scored(OwnModel(load_run_model(run)), tokenizer)
    assert written["scores"]["wikitext"]["bits_per_byte"] == expected.bits_per_byte
    assert written["scores"]["wikitext"]["context"] == 32
    assert written["model"]["weights"]["weights.safetensors"] == micro.record(run).artifacts["weights.safetensors"].sha256


def test_a_folder_without_a_finished_run_is_a_clear_error(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "record.json" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["hf:x", "--wikitxt"], ["hf:x", "another"]])
def test_words_that_it_does_not_have_are_refused(words, capsys):
    assert main(["evaluate", *words]) == 2
    assert "evaluate --help" in capsys.readouterr().err


@pytest.fixture
def tiny_core(monkeypatch, tmp_path):
    """CORE is a tiny bundle; `evaluate hf:...` scores a model that knows nothing on it."""
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEEDRUN_MIRROR", str(tmp_path / "mirror"))
    place = bundle.folder(core_bundle.archive(tmp_path / "mirror", core_bundle.files()))
    load = tasks.load
    monkeypatch.setattr(tasks, "load", lambda: load(place))
    tokenizer = core_bundle.tokenizer()
    facts = {"parameters": 10, "device": "cpu", "dtype": "float32"}
    model = SimpleNamespace(packs=True, context=200, vocab_size=tokenizer.vocab_size, score=Uniform.score)
    model.score = lambda *words: Uniform.score(SimpleNamespace(vocab_size=tokenizer.vocab_size), *words)
    monkeypatch.setattr(evaluate, "_hub_subject", lambda word: evaluate.Subject(word, model, tokenizer, facts))


def test_core_is_scored_task_by_task_beside_published_figures_of_its_protocol_and_drawn(tiny_core, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert main(["evaluate", "hf:x/y", "--core", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "gpt2-124m-core" in said and "llama2" not in said and "33 examples of 4 tasks" in said
    found = json.loads(out.read_text())["scores"]["core"]
    # a model without preferences takes the first option: 3 of 9 picks, 4 of 7 schemas, and no argmax of a language model
    assert [row["correct"] for row in found["tasks"]] == [3, 3, 4, 0] and found["partial"] is None
    centered = [(3 / 9 - 0.4) / 0.6, (3 / 9 - 0.25) / 0.75, (4 / 7 - 0.5) / 0.5, 0.0]
    assert found["core"] == pytest.approx(sum(centered) / 4)
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_fewer_examples_are_labelled_partial(tiny_core, capsys):
    assert main(["evaluate", "hf:x/y", "--core", "--max-per-task", "2"]) == 0
    assert "8 examples of 4 tasks" in (said := capsys.readouterr().out) and "partial" in said


def test_no_examples_are_refused(capsys):
    assert main(["evaluate", "hf:x/y", "--core", "--max-per-task", "0"]) == 2
    assert "--max-per-task 0" in capsys.readouterr().err
