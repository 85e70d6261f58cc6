"""A run on a track of tasks: scored once at its end, resumed where that was cut off, scored again by `evaluate`."""

import json
from dataclasses import replace

import micro
import pytest
from micro import finished_fixture, no_figures_fixture  # noqa: F401

from harness.__main__ import main
from harness.data import counted
from harness.evaluate import answering, tasks
from harness.record.folder import AWAITED
from harness.record.schema import Record
from harness.report import integrity
from harness.report.run.table import end_table
from harness.report.run_data import load_run
from harness.train import ending
from harness.train.signals import interrupt

pytestmark = pytest.mark.slow

LANE = ["lane=physics-dense"]
WORDS = (
    "unranked=true data.tasks=[copy,ngram,brevo] task.copy.length=2 task.copy.gap=2 task.ngram.steps=4 task.ngram.symbols=8 "
    "task.brevo.nodes=3 task.brevo.symbols=8 model.width=16 model.layers=2 model.heads=1 model.ffn_width=16 "
    "model.sequence_length=64 batch.tokens_per_step=256 budget.tokens=1280 validation.steps=[] kernels.compile=off "
    "run.mlflow=off run.log_every_steps=4 precision.format=fp32 track.tokens.val_tokens=1025 track.tokens.slice_tokens=513"
).split()


@pytest.fixture(name="home")
def home_fixture(tmp_path, monkeypatch, no_figures):
    """A folder for short runs that train on little more than val holds, are asked little, and stand beside little counting."""
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tasks, "INSTANCES", 12)
    monkeypatch.setattr(counted, "TRAINING", 64)
    monkeypatch.setattr(counted, "TESTS", 12)
    return tmp_path


def test_a_run_scores_its_tasks_once_and_evaluate_finds_the_same(home, capsys):
    run = micro.run(home / "runs", *WORDS, lane=LANE)
    record, written = micro.record(run), json.loads((run / "evaluations.json").read_text())
    found = record.evaluations["tasks"]
    assert written.keys() == record.evaluations.keys() == {"tasks"}
    assert list(dict.fromkeys(row.task for row in found.scores)) == ["copy", "ngram", "brevo"]
    rows = micro.record_json(run)["evaluations"]["tasks"]["scores"]
    assert rows == written["tasks"]["scores"] and not found.model_extra
    for row in found.scores:
        right = written["tasks"]["right"][row.task][str(row.difficulty)]
        assert row.n == len(right) == 12 and row.right == right.count("1") and (row.kl is not None) == (row.task == "ngram")
    assert {line.name for line in found.task_lines if line.task == "ngram"} >= {"chance", "Bayes optimum", "2-gram", "10-gram"}
    assert "counted" not in record.evaluations["tasks"].content() and written["tasks"]["counted"].keys() == {
        "copy", "ngram", "brevo",
    }  # fmt: skip
    assert [wrong for wrong in integrity.check(load_run(run)) if not wrong.startswith("data.")] == []
    table = end_table(load_run(run), None)
    assert "exact match of whole answers" in table and "capped part" not in table and not record.metrics.partial
    capsys.readouterr()
    assert main(["evaluate", str(run), "--answers", "--out", str(home / "again.json")]) == 0
    again, said = json.loads((home / "again.json").read_text())["scores"]["answers"], capsys.readouterr().out
    assert again["sha256"] == written["tasks"]["sha256"] and again["task_lines"] == written["tasks"]["task_lines"]
    for one, other in zip(again["scores"], written["tasks"]["scores"], strict=True):
        assert all(one[key] == other[key] for key in ("task", "difficulty", "n", "right"))
        assert one["nats"] == pytest.approx(other["nats"], rel=1e-5)
    assert "brevo" in said and (home / "again.png").read_bytes().startswith(b"\x89PNG")
    assert main(["evaluate", str(run), "--answers", "--max-per-task", "4"]) == 0
    assert "partial: 4 of 12 instances" in capsys.readouterr().out
    for words, why in ((["--wikitext"], "vocabulary of 256"), (["tasks=arc_easy"], "no text")):
        assert main(["evaluate", str(run), *words]) == 2
        assert why in capsys.readouterr().err


def test_a_record_that_calls_itself_partial_though_all_of_val_was_scored_holds(home):
    """As records of cut budgets did before."""
    run = load_run(micro.run(home / "runs", *WORDS, "track.tokens.final=[]", lane=LANE))
    edited = run.record.content()
    edited["metrics"]["partial"] = True
    for record in (run.record, Record(**edited)):
        found = integrity.check(replace(run, record=record))
        assert [wrong for wrong in found if not wrong.startswith(("data.", "record_sha256"))] == []


def test_a_budget_of_less_than_val_scores_a_part_of_it_and_no_tasks(home, capsys):
    record = micro.record(micro.run(home, *WORDS, "budget.tokens=512", lane=LANE))
    assert record.metrics.partial and record.metrics.scored_bytes < record.data.val_bytes and record.evaluations == {}
    assert "scoring   the first 512 tokens of val" in capsys.readouterr().out


def test_scoring_that_is_cut_off_twice_leaves_a_record_and_asks_for_nothing_again_but_what_was_cut(home, monkeypatch):
    """Cut off while instances are read, then while they are written: the answers of either are kept."""
    whole = micro.record(micro.run(home / "a", *WORDS, lane=LANE))
    asked, cut = [], {("read", 3), ("write", 2)}

    def watched(what, real):
        def answered(model, given, *rest):
            asked.append((what, repr(given)))
            if (cutting := (what, sum(one == what for one, _ in asked))) in cut:
                cut.remove(cutting)
                interrupt(2)
            return real(model, given, *rest)

        return answered

    for what in ("read", "write"):
        monkeypatch.setattr(tasks, what, watched(what, getattr(answering, what)))
    for _ in range(2):
        assert micro.speedrun(home / "b", *WORDS, lane=LANE) == 130
        run = micro.the_folder(home / "b")
        first = micro.record(run)
        assert first.metrics.val_bpb == whole.metrics.val_bpb and first.evaluations == {}
        assert (run / "weights.safetensors").exists()
        assert "tasks is not scored yet: the same command goes on" in first.unranked_reasons
    assert micro.run(home / "b", *WORDS, lane=LANE) == run
    last = micro.record(run)
    assert last.evaluations == whole.evaluations and last.determinism == whole.determinism and last.resumes == 0
    assert not cut and len(asked) == len(set(asked)) + 2
    assert not [path.name for path in run.iterdir() if path.name.startswith((ending.ANSWERS, AWAITED))]


def test_tasks_that_cannot_be_scored_cost_the_rank_and_not_the_record(home, monkeypatch):
    monkeypatch.setattr(tasks.Test, "__init__", lambda *_: (_ for _ in ()).throw(tasks.UserError("no task can be read", "")))
    record = micro.record(micro.run(home / "runs", *WORDS, lane=LANE))
    assert record.evaluations["tasks"].content() == {"failed": "no task can be read"}
    assert any("tasks could not be scored" in reason for reason in record.unranked_reasons)


def test_what_has_no_tasks_is_refused_by_name(finished, capsys):
    assert main(["evaluate", str(finished()), "--answers"]) == 2
    assert "is of track tiny, which has no tasks" in (said := capsys.readouterr().err) and "make lanes" in said
