"""The command line as a whole: help, mistakes, exit statuses."""

import os
import subprocess

import micro
import pytest
from micro import finished_fixture, no_figures_fixture  # noqa: F401

from harness.__main__ import VERBS, main
from harness.plan.lanes import lane_names

EVERY_HELP = """
import sys
from harness.__main__ import VERBS, main
for words in ([], ["--help"], ["-h"], ["help"], *([verb, "--help"] for verb in VERBS), *([verb, "-h"] for verb in VERBS)):
    assert main(words) == 0, words
for words in (["sped"], ["lanes", "x"], ["speedrun-"]):
    assert main(words) == 2, words
assert "torch" not in sys.modules
"""


@pytest.mark.process
def test_help_and_mistakes_answer_without_importing_torch():
    done = micro.python(EVERY_HELP)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_names_its_usage_and_its_make_target(verb, capsys):
    assert main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"python -m harness {verb}" in said and f"make {verb}" in said


def test_the_overview_names_every_verb_and_how_to_learn_more(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(f"  {verb}" in said for verb in VERBS) and "--help" in said


@pytest.mark.parametrize("word, meant", [("speedrn", "speedrun"), ("plann", "plan"), ("Sample", "sample")])
def test_an_unknown_verb_names_the_nearest_one(word, meant, capsys):
    assert main([word]) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_a_verb_or_key_with_a_new_name_is_told_by_its_old_one(capsys):
    for old, new in (("track", "python -m harness mlflow"), ("sabotage", "python -m tests.sabotage")):
        assert main([old, "runs"]) == 2
        assert new in capsys.readouterr().err
    assert main(["plan", "lane=tiny-dense", "run.track=off"]) == 2
    assert "write run.mlflow=off" in capsys.readouterr().err


@pytest.mark.parametrize(
    "word, said",
    [
        ("lane=tiny-mo-16e", "did you mean tiny-moe-16e?"),
        ("optim.muon.rl=0.1", "did you mean optim.muon.lr?"),
        ("model.width", "write key=value"),
        ("optim.muon.lr=fast", "optim.muon.lr"),
        ("model.top_k=9", "choose top_k in 1..8"),
        ("seed=1,2", "--multirun"),
        ("seed=-1", "seed of 0 or more"),
        ("--seed=1", "write key=value"),
        ("run.keep_checkpoints=0", "run.keep_checkpoints=0"),
        ("run.stop_after_step=-1", "run.stop_after_step=-1"),
        ("run.checkpoint_every_s=-1", "run.checkpoint_every_s=-1"),
    ],
)
def test_a_bad_override_is_explained_and_creates_no_folder(tmp_path, capsys, no_figures, word, said):
    assert micro.speedrun(tmp_path / "runs", word) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_frozen_key_needs_unranked(tmp_path, capsys):
    assert main(["speedrun", "lane=tiny-moe-16e", "model.top_k=2", f"run.folder={tmp_path / 'runs'}"]) == 2
    assert "freezes model.top_k=4" in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_lanes_lists_every_lane_with_its_budget_and_its_twin(capsys):
    assert main(["lanes"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert set(lane_names()) <= rows.keys()
    assert "1,572,864 bytes" in rows["tiny-moe-16e"] and rows["tiny-moe-16e"].endswith("tiny-dense")


def test_plan_shows_what_would_run_and_creates_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *micro.MOE, "run.folder=runs", "seed=7"]) == 0
    said = capsys.readouterr().out
    assert "8 experts of 16, top-2" in said and "seed 7" in said and "32 steps of 256" in said and "unranked" in said
    assert not list(tmp_path.iterdir())


def test_plan_lists_every_key_with_its_mark(capsys):
    assert main(["plan", *micro.MOE, "--keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    marks = {line[:36].strip(): line[36:50].strip() for line in lines}
    assert marks["model.width"] == "frozen" and marks["optim.muon.lr"] == "free" and marks["run.folder"] == "no bits"
    assert marks["health.collapse_load"] == "at most 0.95" and marks["run.log_every_steps"] == "at most 16"
    assert {mark for key, mark in marks.items() if key.startswith("track.")} == {"frozen"}
    known = {line[:36].strip(): line[50:].split(maxsplit=1)[1:] for line in lines}
    assert known["model.router"] == ["hash | sigmoid_topk | softmax_topk"] and known["precision.clip"] == ["0.01 to 1"]
    assert known["optim.muon.newton_schulz_steps"] == ["1 or more"] and known["run.folder"] == []


@pytest.mark.slow
def test_speedrun_says_what_it_will_do_and_ends_with_the_record(tmp_path, capsys):
    run_folder = micro.run(tmp_path)
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"record: {run_folder / 'record.json'}" and (run_folder / "record.json").exists()
    for topic in ("lane", "model", "budget", "machine", "target", "twin", "rules"):
        assert any(line.startswith(topic) for line in said.splitlines()), topic
    for figure in ("bpb.png", "router_health.png", "expert_load.png", "updates.png"):
        assert (run_folder / figure).stat().st_size > 1000 and figure in said


def test_a_run_with_a_cut_budget_is_scored_on_as_much_and_labelled_partial(finished, tmp_path, capsys, no_figures):
    assert micro.record(finished()).metrics.partial and micro.record(finished()).metrics.scored_bytes == 8192
    micro.run(tmp_path, "budget.tokens=1024", lane=micro.DENSE)
    said = capsys.readouterr().out
    assert "scoring   the first 1,024 bytes of val" in said and "partial" in said


def test_a_budget_below_one_step_shrinks_the_step(tmp_path, no_figures):
    run_folder = micro.run(tmp_path, "budget.tokens=100", lane=micro.DENSE)
    record = micro.record(run_folder)
    assert record.metrics.tokens == 96 and [row["step"] for row in micro.rows(run_folder, "step")] == [1]


@pytest.mark.slow
def test_show_prints_the_end_table_of_a_run_again(finished, capsys):
    assert main(["show", str(finished())]) == 0
    assert "this run" in capsys.readouterr().out
    assert main(["show", str(finished().parent)]) == 2  # nothing ranked there
    assert main(["show", "nowhere"]) == 2


@pytest.mark.process
@pytest.mark.parametrize("verb", ["verify", "evaluate", "doctor", "report", "inspect"])
def test_make_drops_no_seeds_that_a_verb_of_finished_runs_is_given(verb):
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of a `make test`
    words = ["make", "--dry-run", verb, "RUN=runs/x/1-0", "SEEDS=1,2,3"]
    done = subprocess.run(words, cwd=micro.ROOT, env=outer, capture_output=True, text=True)
    if verb == "inspect":  # which says it better
        assert done.returncode == 0 and "inspect runs/x/1-0 seeds=1,2,3" in done.stdout
    else:
        assert done.returncode == 2 and f"SEEDS=1,2,3: {verb} takes finished runs by their folders" in done.stderr
