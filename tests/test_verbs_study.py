"""The verb: cases are run once, what is finished or stopped is taken, what fails is named, and the results are published."""

import contextlib
import io
import json
from pathlib import Path

import micro
import pytest
from micro import no_figures_fixture  # noqa: F401

import harness.plan.study
from harness.__main__ import main
from harness.data import counted
from harness.evaluate import tasks
from harness.launch import child, looks

FILE = f"""
title: an example
question: Does balancing matter?
lane: tiny-moe-16e
figure: rules
common: >-
  {" ".join([*micro.MOE[1:], "health.window_steps=8"])}
cases:
  bias: ""
  none: balance=none health.collapse_load=1
  broken: balance=none health.collapse_load=0.26
  wrong: model.top_k=99
"""


OF_TASKS = """
title: an example
question: Do experts specialise?
lane: physics-moe-16e
figure: routing
common: >-
  unranked=true data.tasks=[copy,ngram] task.copy.length=2 task.copy.gap=2 task.ngram.steps=4 task.ngram.symbols=8
  model.width=16 model.layers=2 model.heads=1 model.num_experts=8 model.expert_width=16 model.top_k=2
  model.sequence_length=64 batch.tokens_per_step=256 budget.tokens=1024 validation.steps=[] kernels.compile=off
  run.mlflow=off run.log_every_steps=4 precision.format=fp32 track.tokens.val_tokens=1025 track.tokens.slice_tokens=513
  track.tokens.final=[tasks] health.dead_share=1 health.collapse_load=1
cases:
  bias: ""
  none: balance=none
"""


@pytest.fixture
def study(tmp_path, monkeypatch, no_figures, capsys):
    """`study` in a folder of its own, its runs in this process. Gives (exit status, how often each case ran, output)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "example.yaml").write_text(FILE)
    monkeypatch.setattr(harness.plan.study, "STUDIES", tmp_path / "studies")

    def run_one(overrides):
        ran.append(overrides)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = main(["speedrun", *overrides])
        record = Path(said.getvalue().splitlines()[-1].removeprefix("record: "))
        return code, record if code == 0 else None

    def go(*words):
        ran.clear()
        status = main(["study", *words])
        return status, len(ran), capsys.readouterr()

    ran = []
    monkeypatch.setattr(child, "speedrun", run_one)
    return go


@pytest.mark.slow
def test_a_study_runs_its_cases_once_names_what_fails_and_publishes_stopped_runs_too(study, tmp_path):
    out = tmp_path / "results" / "studies" / "example"
    status, ran, said = study("example", "run.keep_checkpoints=1", "validation.steps=[16]", "--out", str(out))
    assert status == 1 and ran == 3 and "failed: wrong: model.top_k=99 of model.num_experts=8" in said.err
    assert "stopped by health (collapse) at step 8" in said.out and "bias: unranked: batch.tokens_per_step=256" in said.out
    assert {path.name for path in out.iterdir()} == {"study.md", "study.png", "study.json", "bias", "none", "broken"}
    assert (out / "broken" / "1" / "stopped.json").exists() and (tmp_path / "runs" / "study-example" / "study.png").exists()
    common = json.loads((out / "study.json").read_text())["study"]["common"]
    assert common.count("validation.steps=") == common.count("validation.steps=[16]") == 1 and "run." not in common
    numbers = json.loads((out / "study.json").read_text())["trials"]
    assert [(one["case"], one["slice_bpb"] is None) for one in numbers] == [("bias", False), ("none", False), ("broken", True)]

    (tmp_path / "runs").rename(tmp_path / "gone")  # the published records are enough to go on from
    status, ran, said = study("example", "validation.steps=[16]", "--out", str(out))
    assert status == 1 and ran == 0 and "have bias seed 1" in said.out
    assert "have broken seed 1, stopped by health" in said.out

    (out / "bias" / "1").rename(out / "bias" / "7")
    for words, refused in ((["example", "--out", str(out)], "seeds 7 too, which would be lost"),
                           (["example", "--out", str(tmp_path / "studies")], "is no folder of a study")):  # fmt: skip
        status, ran, said = study(*words)
        assert status == 2 and ran == 0 and refused in said.err
    status, _, said = study("--from", str(out))
    assert status == 2 and "its plan has seed 1" in said.err and "nothing was drawn" in said.err
    (out / "bias" / "7").rename(out / "bias" / "1")
    status, _, said = study("--from", str(out))
    assert status == 0 and "| bias | as it is | 1 |" in said.out and "has no record of wrong" in said.err

    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    status, _, said = study("example", "validation.steps=[16]", "batch.tokens_per_step=250", "--out", str(out))
    assert status == 2 and {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (tmp_path / "studies" / "example.yaml").write_text(FILE.replace("none: balance=none", "none: model.top_k=99"))
    status, _, said = study("example", "validation.steps=[16]", "--out", str(out))
    assert status == 1 and "is left as it was: it has none seed 1, of which there is no run now" in said.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / "none").rename(out / "other")
    (out / "bias").rename(out / "none")
    (out / "other").rename(out / "bias")
    status, _, said = study("--from", str(out))
    assert status == 2 and "its plan is not that of case bias" in said.err


@pytest.mark.slow
def test_a_case_starts_from_a_checkpoint_of_an_earlier_one_and_is_known_again(study, tmp_path):
    cases = """cases:
  source: balance=none health.collapse_load=0.26
  healed: fork=source@4
  from-nowhere: fork=source@99
"""
    (tmp_path / "studies" / "example.yaml").write_text(FILE[: FILE.index("cases:")] + cases)
    out = tmp_path / "out"
    status, ran, said = study("example", "run.checkpoint_every_s=3600", "--out", str(out))
    assert status == 1 and ran == 3 and "from-nowhere seed 1 ended with status 2" in said.err
    record = micro.record(out / "healed" / "1")
    source = next(path.parent for path in (tmp_path / "runs").rglob("stopped.json"))
    assert Path(record.fork).resolve() == Path(f"{source}@4") and record.unranked_reasons
    assert (source / "checkpoints" / "step-000004.json").exists() and "| source |" in said.out and "collapse" in said.out

    status, ran, said = study("example")
    assert ran == 1 and "have healed seed 1" in said.out and "have source seed 1, stopped by health" in said.out
    (tmp_path / "runs").rename(tmp_path / "gone")
    (tmp_path / "results").mkdir()
    out.rename(tmp_path / "results" / "example")
    status, ran, said = study("example")  # copies of records are known by the plan of the run they started from
    assert ran == 1 and "have healed seed 1" in said.out


@pytest.mark.parametrize(
    "words, said",
    [(("exmple",), "did you mean example?"), (("example", "lane=tiny-dense"), "its own lane"),
     (("example", "more"), "one name"), (("example", "seeds=1,1"), "each once"), (("example", "seeds=1,01"), "each once"),
     (("example", "seeds=1", "seeds=2"), "one list"), (("example", "++seed=3"), "its own lane"),
     (("--out", "x"), "no study is named"),
     (("--from", "nowhere"), "holds no study"),
     (("example", "--from", "x"), "leave out"), (("example", "optim.muon.rl=1"), "did you mean optim.muon.lr?"),
     (("example", "model.top_k=99"), "no case of study example can be run"),
     (("example", "balance.rule=bias", "balance.rate=0.1", "health.collapse_load=0.5"), "are one plan")],
)  # fmt: skip
def test_bad_arguments_are_explained_before_anything_is_run(study, words, said):
    status, ran, printed = study(*words)
    assert status == 2 and ran == 0 and said in printed.err


@pytest.mark.slow
def test_a_study_of_experts_and_tasks_looks_into_each_run_once_and_is_drawn_again_without_weights(study, tmp_path, monkeypatch):
    (tmp_path / "studies" / "example.yaml").write_text(OF_TASKS)
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    for module, name, value in ((tasks, "INSTANCES", 12), (counted, "TRAINING", 64), (counted, "TESTS", 12)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(looks, "INSTANCES", 16)
    looked, out = [], tmp_path / "out"

    def look(words, **how):
        looked.append(words)
        return child.Ended(main(words), "")

    monkeypatch.setattr(child, "run", look)
    status, ran, said = study("example", "--out", str(out))
    assert (status, ran, [words[0] for words in looked]) == (0, 2, ["inspect", "inspect"]), said.err
    assert "told of the task" in said.out and "| copy | exact match |" in said.out and "| ngram | minus KL |" in said.out
    table = (out / "study.md").read_bytes()
    numbers = json.loads((out / "study.json").read_text())["trials"]
    assert all(one["routing"]["tasks"]["copy"]["score"] is not None for one in numbers)
    looked.clear()
    status, ran, said = study("example")
    assert (status, ran, looked) == (0, 0, []) and "have inspect of bias seed 1" in said.out

    run = next((tmp_path / "runs").rglob("inspect.json")).parents[1]
    (run / "inspect" / "inspect.json").write_text("{}")
    (run / "weights.safetensors").unlink()
    status, ran, said = study("example", "--out", str(out))
    assert (status, ran, len(looked)) == (1, 0, 1) and "it was pruned; train it again" in said.err
    assert (
        "was not looked into by inspect (status 2)" in said.err
        and f"{out} is left as it was: {run.relative_to(tmp_path)}: " in said.err
    )
    (tmp_path / "runs").rename(tmp_path / "gone")
    assert study("--from", str(out))[0] == 0 and (out / "study.md").read_bytes() == table


@pytest.mark.parametrize(
    "words, said",
    [(("data.tasks=[copy]",), "bias has 1 generated tasks (copy)"),
     (("track.tokens.final=[]",), "add track.tokens.final=[tasks]"), (("model.top_k=99",), "no case of study example")],
)  # fmt: skip
def test_a_study_of_experts_and_tasks_needs_several_tasks_that_are_scored(study, tmp_path, words, said):
    (tmp_path / "studies" / "example.yaml").write_text(OF_TASKS)
    status, ran, printed = study("example", *words)
    assert status == 2 and ran == 0 and said in printed.err


def test_a_lane_without_tasks_is_refused_where_the_figure_is_about_them(study, tmp_path):
    (tmp_path / "studies" / "example.yaml").write_text(FILE.replace("figure: rules", "figure: routing"))
    status, ran, printed = study("example")
    assert status == 2 and ran == 0
    assert "bias has 0 generated tasks (none)" in printed.err and "physics-moe-16e" in printed.err


def test_a_dense_lane_is_refused_where_the_figure_is_about_experts(study, tmp_path):
    dense = f"title: t\nquestion: q?\nlane: tiny-dense\nfigure: rules\ncommon: {' '.join(micro.DENSE[1:])}\ncases:\n  a: ''\n"
    (tmp_path / "studies" / "example.yaml").write_text(dense)
    status, ran, said = study("example")
    assert status == 2 and ran == 0 and "a is a dense model" in said.err and "of any model is cost" in said.err


def test_without_a_name_the_studies_are_listed(study):
    status, _, printed = study()
    assert status == 0 and "Does balancing matter?" in printed.out and "bias, none, broken, wrong" in printed.out
