"""Searches: arms in turn, halving, interruptions that change nothing, several processes on one storage, and both refusals."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import micro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_factory import MOE, Fake, course, figures, finished, here, space, told

from harness.errors import UserError
from harness.launch.search.course import FAILED_IN_ROW
from harness.launch.search.halving import expected, goes_on
from harness.launch.search.runs import Outcome
from harness.launch.search.shown_plan import plan_text
from harness.launch.search.storage import JOURNAL, Storage
from harness.plan.space_check import drawn
from harness.record.ledger import read_ledger

BOTH = {"dense": {"words": "budget.tokens=1572864"}, "moe": MOE}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@settings(max_examples=200)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(2, 5))
def test_of_n_trials_that_come_to_a_rung_the_best_go_on_and_the_best_of_all_always_does(values, reduction):
    for n, figure in enumerate(values):
        others = values[:n]
        rank = sum(other < figure for other in others)
        assert goes_on(figure, others, reduction) == (rank < math.ceil((n + 1) / reduction))
        if figure <= min(others, default=figure):
            assert goes_on(figure, others, reduction)


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(2, 5))
def test_fewer_are_expected_at_each_rung_and_never_more_than_there_are_trials(trials, rungs, reduction):
    found = expected(trials, rungs, reduction)
    assert len(found) == rungs and found[0] == trials and all(a >= b - 1e-9 for a, b in zip(found, found[1:]))


def test_arms_take_turns_and_no_more_is_run_than_was_stated(monkeypatch):
    counts = []
    of = space(families=BOTH, trials=4)

    def look(job):
        trials = [made.storage.trials(arm) for arm in of.arms]
        counts.append([len(some) for some in trials])

    fake = Fake(before=look)
    made = course(monkeypatch, fake, of)
    assert made.run(100.0) == ""
    ledger = made.write()
    assert all(max(some) - min(some) <= 1 for some in counts)
    assert Counter(trial.arm for trial in ledger.trials) == dict.fromkeys(
        ("dense/tpe", "dense/random", "moe/tpe", "moe/random"), 4
    )
    assert len(set(fake.calls)) == len(fake.calls) <= len(of.arms) * of.trials * len(of.rungs)
    assert ledger == read_ledger(made.folder) and ledger.counts.trials == 16 and ledger.counts.running == 0
    for family, sampler in of.arms:
        start, *others = ledger.of_arm(family, sampler)
        assert (start.number, start.state, start.rung) == (0, "complete", 2) and start.words[-1] == "budget.tokens=1572864"
        figures = [math.log(start.rungs[0].equivalent_s)]
        for trial in others:
            own = math.log(trial.rungs[0].equivalent_s)
            assert trial.state == ("complete" if goes_on(own, figures, of.reduction) else "pruned")
            assert [rung.share for rung in trial.rungs] == of.rungs[: trial.rung]
            figures.append(own)
    taken = [trial for trial in ledger.trials if trial.sampler == "random" and trial.number == 0]
    assert all(rung.status == "taken" for trial in taken for rung in trial.rungs)


def test_equivalent_seconds_are_those_of_a_run_that_meets_the_line(monkeypatch):
    """Where bits fall by 0.3 per ln(second), a start that lies above the line needs so much longer."""
    ledger = finished(monkeypatch, Fake(), space(trials=2))
    assert ledger.slopes == {"dense": pytest.approx(0.3)}
    start = ledger.of_arm("dense", "tpe")[0]
    train_s, bits = figures(drawn(space(), "dense").rungs[-1].plan)
    assert start.equivalent_s == pytest.approx(train_s * math.exp((bits - ledger.level) / 0.3))
    assert start.equivalent_s == pytest.approx(start.rungs[0].equivalent_s)  # on one law all rungs say the same


@pytest.mark.parametrize("at", [[0], [1, 2], [3, 6], [2, 3, 5, 7, 9]], ids=str)
def test_a_search_that_was_interrupted_ends_as_one_that_was_not(monkeypatch, at):
    whole = finished(monkeypatch, Fake())
    os.rename("runs", "before")
    for call in at:
        fake = Fake({call - len(list(Path("runs").glob("*/*/record.json"))): KeyboardInterrupt()})
        with pytest.raises(KeyboardInterrupt):
            course(monkeypatch, fake).run(100.0)
        assert read_ledger(Path("runs/search-example")).counts.running == 1
    assert told(finished(monkeypatch, Fake())) == told(whole)


def test_no_time_left_leaves_what_was_begun_for_the_next_call(monkeypatch):
    whole, left = finished(monkeypatch, Fake()), []
    os.rename("runs", "before")
    made = course(monkeypatch, Fake())
    monkeypatch.setattr(made.seconds, "of", lambda *_: 3601.0)
    left.append(made.run(1.0))
    ledger = made.write()
    assert left == ["time is up"] and [(t.arm, t.state, t.rungs) for t in ledger.trials] == [("dense/tpe", "running", [])]
    assert told(finished(monkeypatch, Fake())) == told(whole)


def test_random_draws_depend_on_seed_arm_and_number_alone(monkeypatch):
    long = finished(monkeypatch, Fake(), space(trials=5))
    os.rename("runs", "before")
    short = finished(monkeypatch, Fake(), space(trials=3))
    assert told(finished(monkeypatch, Fake(), space(trials=5))) == told(long)
    params = [[t.params for t in ledger.of_arm("dense", "random")] for ledger in (long, short)]
    assert params[0][:3] == params[1] and len({json.dumps(some) for some in params[0]}) == 5
    os.rename("runs", "seed 1")
    other = finished(monkeypatch, Fake(), space(trials=3, seed=2))
    assert [t.params for t in other.of_arm("dense", "random")][1:] != params[1][1:]


def test_two_searchers_share_one_storage(monkeypatch):
    of, uneven = space(families=BOTH, trials=4), []

    def look(job):
        time.sleep(0.02)
        with searchers[0].storage.turn():
            counts = [len(searchers[0].storage.trials(arm)) for arm in of.arms]
        uneven.append(max(counts) - min(counts))

    fakes = [Fake(before=look), Fake(before=look)]
    searchers = [course(monkeypatch, fake, of) for fake in fakes]
    threads = [threading.Thread(target=searcher.run, args=(100.0,)) for searcher in searchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ledger = searchers[0].write()
    made = [call for fake in fakes for call in fake.calls]
    assert all(fake.calls for fake in fakes) and len({plan for _, plan in made}) == len(made)
    assert max(uneven) <= 1 and Counter(t.arm for t in ledger.trials) == {"/".join(arm): 4 for arm in of.arms}
    assert ledger.counts.running == ledger.counts.failed == 0
    assert [t.number for t in ledger.of_arm("moe", "tpe")] == [0, 1, 2, 3]


KILLED = """
import sys, time
from search_factory import Fake, space
from harness.launch.search.course import Course
def stay(job):
    print("making", flush=True)
    time.sleep(60)
Course.of(space(), Fake(before=stay)).run(1.0)
"""


@pytest.mark.process
def test_a_trial_of_a_searcher_that_was_killed_is_taken_up_and_a_half_written_line_cut_off(monkeypatch):
    path = os.pathsep.join([str(micro.ROOT), str(micro.ROOT / "tests")])
    words = [sys.executable, "-c", KILLED]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}) as child:
        assert child.stdout.readline().startswith("\n") and "== dense/tpe 0" in child.stdout.readline()
        assert child.stdout.readline() == "making\n"
        child.send_signal(signal.SIGKILL)
    with Path("runs/search-example", JOURNAL).open("ab") as file:
        file.write(b'{"op_code": 8, "worker')
    ledger = finished(monkeypatch, Fake())
    assert ledger.counts.trials == 12 and ledger.counts.running == 0 and ledger.trials[0].state == "complete"


def test_a_trial_that_went_on_before_it_was_interrupted_is_not_pruned_afterwards(monkeypatch):
    """Others may have come to its first rung since, where several processes search."""
    tell = Storage.tell

    def is_killed(self, taken, state, figure):
        if state == "complete" and taken.number:
            raise KeyboardInterrupt
        tell(self, taken, state, figure)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Storage, "tell", is_killed)
        course(monkeypatch, Fake()).run(100.0)
    (half,) = [trial for trial in read_ledger(Path("runs/search-example")).trials if trial.state == "running"]
    monkeypatch.setattr("harness.launch.search.course.goes_on", lambda *_: False)
    whole = finished(monkeypatch, Fake()).find(half.arm, half.number)
    assert (whole.state, whole.rung) == ("complete", 2)


def test_another_space_is_refused_by_the_keys_that_differ(monkeypatch):
    finished(monkeypatch, Fake(), space(trials=1))
    dials = {"optim.muon.lr": {"low": 0.01, "high": 0.2, "log": True}, "schedule.decay_share": {"low": 0.3, "high": 0.9}}
    with pytest.raises(UserError) as caught:
        course(monkeypatch, Fake(), space(dials=dials))
    assert "dials.optim.muon.lr.low: 0.005 there, 0.01 in this space" in caught.value.problem
    assert "dials.schedule.decay_share.low: (absent) there, 0.3 in this space" in caught.value.problem
    assert "rungs" not in caught.value.problem and "copy studies/spaces/example.yaml to a new name" in caught.value.remedy
    course(monkeypatch, Fake(), space(trials=3, title="another"))


def test_a_space_that_was_only_looked_at_may_change(monkeypatch):
    course(monkeypatch, Fake(), space(families=BOTH))
    other = space(rungs=[0.5, 1], trials=1)
    assert finished(monkeypatch, Fake(), other).space.rungs == [0.5, 1]
    course(monkeypatch, Fake(), other)
    with pytest.raises(UserError, match="has the trials of another space"):
        course(monkeypatch, Fake(), space(families=BOTH))


def test_another_machine_class_is_refused_by_both_names(monkeypatch):
    finished(monkeypatch, Fake(), space(trials=1))
    other = replace(here(), threads=here().threads + 5)
    with pytest.raises(UserError) as caught:
        course(monkeypatch, Fake(), machine=other)
    assert here().hardware_class in caught.value.problem and other.hardware_class in caught.value.problem
    assert "OMP_NUM_THREADS" in caught.value.remedy


def test_a_family_without_a_first_trial_closes_its_arms_and_the_others_go_on(monkeypatch):
    stopped = Path("stopped")
    stopped.mkdir()
    (stopped / "stopped.json").write_text(json.dumps({"reason": "collapse", "step": 5, "what": "an expert", "remedy": ""}))
    of = space(families=BOTH, trials=3)
    made = course(monkeypatch, Fake({2: Outcome(stopped)}), of)
    assert made.run(100.0) == ""
    ledger = made.write()
    assert made.closed() == {"moe": "stopped by health at step 5: an expert"}
    assert [(t.arm, t.state) for t in ledger.trials if t.family == "moe"] == [("moe/tpe", "stopped")]
    assert Counter(t.arm for t in ledger.trials if t.family == "dense") == {"dense/tpe": 3, "dense/random": 3}


def test_a_search_whose_only_start_fails_says_so(monkeypatch):
    made = course(monkeypatch, Fake({0: Outcome(None, "speedrun ended with status 1")}))
    with pytest.raises(UserError, match="search example has no finished first trial") as caught:
        made.run(100.0)
    assert "dense: speedrun ended with status 1" in caught.value.problem
    assert read_ledger(made.folder).trials[0].why == "speedrun ended with status 1"


def test_a_start_whose_bits_rise_gives_no_slope(monkeypatch):
    monkeypatch.setattr("search_factory.figures", lambda plan: (plan.budget.tokens / 1e5, 1 + plan.budget.tokens / 1e7))
    with pytest.raises(UserError, match="its bits do not fall from rung to rung"):
        course(monkeypatch, Fake()).run(100.0)


def test_failed_and_stopped_trials_stay_with_why_and_many_in_a_row_end_the_search(monkeypatch):
    made = course(monkeypatch, Fake({n: Outcome(None, f"speedrun ended with status {n}") for n in range(2, 99)}))
    with pytest.raises(UserError, match=f"{FAILED_IN_ROW} runs in a row left no record"):
        made.run(100.0)
    failed = [trial for trial in read_ledger(made.folder).trials if trial.state == "failed"]
    assert [trial.why for trial in failed] == [f"speedrun ended with status {n}" for n in (2, 3, 4)]
    ledger = finished(monkeypatch, Fake())
    assert ledger.counts.failed == 3 and ledger.counts.trials == 12 and ledger.counts.running == 0


def test_a_plan_is_shown_before_anything_runs(monkeypatch):
    fake = Fake()
    made = course(monkeypatch, fake, space(families=BOTH))
    text = plan_text(made, made.trials())
    assert fake.calls == [] and made.trials() == []
    assert "dense/random" in text and "to compile once" in text and "all trials take about" in text
    ledger = finished(monkeypatch, fake, space(families=BOTH, trials=3))
    shown = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("    moe/random")]
    assert shown == [" ".join(trial.words) for trial in ledger.of_arm("moe", "random")]
