"""Token tracks through training to a whole record: documents, a stream, its target."""

import json
from dataclasses import replace

import core_bundle
import micro
import pytest
from micro import no_figures_fixture  # noqa: F401
from small_tokens import documents, everywhere, own_cache_fixture, small_tokenizer, small_track  # noqa: F401

import harness.report
import harness.train.ending
from harness.__main__ import main
from harness.data import corpora
from harness.data.shards import write_shards
from harness.evaluate import wikitext
from harness.evaluate.core import bundle, score, tasks
from harness.evaluate.core.kept import kept as kept_of_core
from harness.plan.compose import Composed
from harness.record.folder import AWAITED
from harness.record.schema import Record
from harness.report import integrity
from harness.report.board.sentences import figures
from harness.report.compare.matrix_figure import draw_matrix
from harness.report.compare.summary import summary_table
from harness.report.groups import find_groups
from harness.report.run.bpb import draw_bpb
from harness.report.run.table import end_table
from harness.report.run_data import load_run
from harness.report.style import styled
from harness.train import ending
from harness.train.signals import interrupt

pytestmark = pytest.mark.slow

COMMON = (
    "unranked=true model.width=16 model.layers=2 model.heads=1 model.ffn_width=16 model.sequence_length=16 kernels.compile=off "
    "batch.tokens_per_step=64 budget.tokens=1024 validation.steps=[4,8] parallel.micro_batch_tokens=32 run.mlflow=off "
    "run.log_every_steps=4"
).split()
MOE = "lane=wiki-s-moe-64e model.num_experts=4 model.expert_width=8 model.top_k=2 model.shared_experts=1".split()


@pytest.fixture(name="wiki")
def wiki_fixture(own_cache, monkeypatch, no_figures):
    """Every load of a track of documents gets a small one."""
    track = small_track(own_cache / "mirror", [documents(1, 10), documents(2, 10)], documents(3, 6))
    everywhere(monkeypatch, track)
    return own_cache, track


def test_a_moe_on_documents_reaches_a_whole_record(wiki, capsys):
    home, track = wiki
    run = micro.run(home / "runs", *COMMON, lane=MOE)
    record, metrics = micro.record(run), micro.record(run).metrics
    assert metrics.target is None and metrics.time_to_target_s is None and not metrics.target_reached
    assert metrics.val_loss > 0 and 0 < metrics.val_bpb
    assert not metrics.partial and metrics.scored_bytes == record.data.val_bytes  # files that hold less than the track states
    found = corpora.load(corpora.Wanted(track))
    assert record.data.train_tokens == found.train_length and record.data.val_sha256 == track.val_sha256
    epochs = [point["epoch"] for point in metrics.curve]
    assert epochs == pytest.approx([step * 64 / found.train_length for step in (4, 8, 16)])
    assert metrics.slice_loss == metrics.curve[-1]["slice_loss"]
    wrong = [w for w in integrity.check(load_run(run)) if not w.startswith("data.")]  # the plan states the whole track's data
    assert wrong == []
    capsys.readouterr()
    assert main(["sample", str(run), "--bytes", "9", "--prompt", "the hé"]) == 0
    assert capsys.readouterr().out.startswith("the hé")
    table = end_table(load_run(run), None)
    assert "nats per token of val" in table and "passes over train" in table and "not reached" not in table


@pytest.fixture(name="public")
def public_fixture(wiki, monkeypatch):
    """Small public test sets, and short runs that count as whole: the folder for them."""
    home, _ = wiki
    monkeypatch.setattr(Composed, "cut", False)
    place = bundle.folder(core_bundle.archive(home / "mirror", core_bundle.files()))
    load = tasks.load
    monkeypatch.setattr(tasks, "load", lambda: load(place))
    monkeypatch.setattr(wikitext, "raw_text", lambda: " \n = First = \n \n A page , of two lines . \n")
    monkeypatch.setattr(harness.train.ending, "gpt2", small_tokenizer)
    return home


def test_a_whole_run_scores_the_public_sets_of_its_track_once_and_keeps_every_answer(public):
    run = micro.run(
        public / "runs", *COMMON, "model.sequence_length=64", "parallel.micro_batch_tokens=64", "lane.gpu=false", lane=MOE
    )
    record, written = micro.record(run), json.loads((run / "evaluations.json").read_text())
    assert record.evaluations.keys() == written.keys() == {"wikitext", "core"}
    assert record.artifacts["evaluations.json"].bytes == (run / "evaluations.json").stat().st_size
    assert record.evaluations["wikitext"].bits_per_byte == written["wikitext"]["bits_per_byte"] > 0
    assert sum(map(len, written["core"]["right"].values())) == written["core"]["examples"] == 33
    assert not any(found.model_extra for found in record.evaluations.values())  # neither "right" nor "pages"
    table = end_table(load_run(run), None)
    assert "gpt2-124m-wikitext 0.9769" in table and "gpt2-124m-core 0.1139" in table and "bootstrap interval" in table


def test_a_public_set_that_cannot_be_scored_costs_the_rank_and_not_the_record(public):
    run = micro.run(public / "runs", *COMMON, "lane.gpu=false", lane=MOE)  # a context of 16: too short for CORE's answers
    record = micro.record(run)
    assert "are to be scored" in record.evaluations["core"].failed and record.evaluations["wikitext"].nats > 0
    assert any("core could not be scored" in reason for reason in record.unranked_reasons)
    assert "not scored:" in end_table(load_run(run), None)


def test_scoring_that_is_cut_off_leaves_a_record_and_costs_neither_the_answers_nor_the_rank(public, monkeypatch, capsys):
    words = [*COMMON, "model.sequence_length=64", "parallel.micro_batch_tokens=64", "lane.gpu=false"]
    whole, asked, real = micro.record(micro.run(public / "a", *words, lane=MOE)), [], score._scored

    def cut(model, task, indices, *rest):
        asked.append((task.label, indices.start))
        if len(asked) == 3:
            interrupt(2)
        return real(model, task, indices, *rest)

    monkeypatch.setattr(score, "_scored", cut)
    assert micro.speedrun(public / "b", *words, lane=MOE) == 130
    run = micro.the_folder(public / "b")
    first = micro.record(run)
    assert first.metrics.val_bpb == whole.metrics.val_bpb and first.evaluations == {}
    assert [why for why in first.unranked_reasons if "not scored yet" in why] == [
        f"{name} is not scored yet: the same command goes on" for name in ("wikitext", "core")
    ]
    assert [wrong for wrong in integrity.check(load_run(run)) if not wrong.startswith("data.")] == []
    assert micro.run(public / "b", *words, lane=MOE) == run
    last = micro.record(run)
    assert last.evaluations == whole.evaluations and last.determinism == whole.determinism
    assert last.resumes == 0 and last.unranked_reasons == whole.unranked_reasons
    assert len(asked) == len(set(asked)) + 1  # only the chunk that was cut off is asked for again
    assert not [path.name for path in run.iterdir() if path.name.startswith((ending.ANSWERS, AWAITED))]


def test_answers_of_other_weights_or_cut_off_in_a_line_are_not_taken(tmp_path):
    path, chunk, answers = tmp_path / "answers", score.Chunk(0, 0, 2), [score.Answer(0, (1.0, None), 0, True)]
    kept = kept_of_core(path, "weights 1")
    kept.keep(chunk, answers)
    assert kept_of_core(path, "weights 1").found == {chunk: answers}
    whole = path.read_bytes()
    kept.keep(score.Chunk(0, 2, 3), answers)
    path.write_bytes(path.read_bytes()[:-5])
    assert kept_of_core(path, "weights 1").found == {chunk: answers} and path.read_bytes() == whole
    assert kept_of_core(path, "weights 2").found == {}


def test_a_public_set_that_is_missing_stops_before_training(wiki, monkeypatch, capsys):
    home, _ = wiki
    monkeypatch.setattr(Composed, "cut", False)
    assert micro.speedrun(home / "runs", *COMMON, "lane.gpu=false", lane=MOE) == 2
    assert "text/wiki.test.raw" in (said := capsys.readouterr().err) and "SPEEDRUN_MIRROR" in said
    assert not list((home / "runs").rglob("identity.json"))


def test_the_same_words_give_the_same_bits_and_a_resumed_run_too(wiki):
    home, _ = wiki
    whole = micro.bits(micro.run(home / "a", *COMMON, lane=MOE))
    assert micro.speedrun(home / "b", *COMMON, "run.stop_after_step=6", lane=MOE) == 0
    assert micro.bits(micro.run(home / "b", *COMMON, lane=MOE)) == whole


def test_a_stream_of_token_files_trains_the_big_family_and_its_target_is_nats_per_token(wiki, monkeypatch):
    home, track = wiki
    found = corpora.load(corpora.Wanted(track))
    for split, part in (("train", found.train_documents), ("val", found.val_documents)):
        write_shards(home / "bin", f"wiki_{split}", part.pieces(found.tokenizer.end_of_text))
    words = [*COMMON, f"data.shards={home / 'bin'}", "track.milestones.gpt2_124m.value=10.7"]
    run = micro.run(home / "runs", *words, lane=["lane=dense"])
    metrics = micro.record(run).metrics
    assert metrics.target.content() == {"line": "gpt2_124m", "slice_loss": 10.7}
    assert metrics.target_reached and metrics.time_to_target_s > 0
    assert metrics.val_bpb_clean is None and micro.record(run).data.train_bytes is None
    assert integrity.check(load_run(run)) == []
    assert "reached, now" in end_table(load_run(run), None)


def test_an_edited_loss_target_is_found(wiki):
    home, track = wiki
    found = corpora.load(corpora.Wanted(track))
    for split, part in (("train", found.train_documents), ("val", found.val_documents)):
        write_shards(home / "bin", f"wiki_{split}", part.pieces(found.tokenizer.end_of_text))
    run = load_run(micro.run(home / "runs", *COMMON, f"data.shards={home / 'bin'}", lane=["lane=dense"]))
    edited = run.record.content()
    edited["metrics"]["target"]["slice_loss"] = 20.0
    assert any("metrics.target.slice_loss is 20.0" in w for w in integrity.check(replace(run, record=Record(**edited))))


def test_tables_frames_and_figures_read_records_of_token_tracks(wiki):
    home, _ = wiki
    for lane in (MOE, ["lane=wiki-s-dense"]):
        micro.run(home / "runs", *COMMON, lane=lane)
    groups = find_groups([home / "runs"])
    assert groups.problems == [] and {group.lane for group in groups.groups} == {"wiki-s-moe-64e", "wiki-s-dense"}
    assert "| wiki-s-dense |" in summary_table(groups.groups)
    assert draw_matrix(groups.groups, home / "matrix.png").exists()
    with styled():
        for group in groups.groups:
            assert draw_bpb(group.runs[0], None, home / "bpb.png").exists()
    frames = harness.report.load(home / "runs")
    assert frames.records["target_line"].isna().all() and set(frames.records["track"]) == {"wiki"}
    said = figures(groups.groups[0], timed=True)
    assert "the track is a fixed budget: no target, no time to it" in said
