"""The clock: what is on it, what is off it, and that nothing is lost."""

import time

import micro
import pytest
from micro import finished_fixture, no_figures_fixture  # noqa: F401

import harness.train.loop
from harness.record.folder import MetricsLog
from harness.train import checkpoint
from harness.train.clock import ENTRIES, Clock

PAUSE_S = 1000.0


@pytest.fixture
def paused(monkeypatch):
    """paused(work): the same work, and PAUSE_S more on every clock. Nobody waits, and no busy machine comes near it."""
    now, slept = time.perf_counter, []
    monkeypatch.setattr(time, "perf_counter", lambda: now() + PAUSE_S * len(slept))

    def slow(work):
        def after(*arguments, **words):
            slept.append(True)
            return work(*arguments, **words)

        return after

    return slow


@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_the_ledger_adds_up_to_the_wall_time(finished, kind):
    clock = micro.record(finished(kind)).clock.content()
    assert clock.keys() == {*ENTRIES, "other_s", "wall_s"}
    assert all(seconds >= 0 for seconds in clock.values())
    assert sum(seconds for name, seconds in clock.items() if name != "wall_s") == pytest.approx(clock["wall_s"], abs=1e-6)
    assert all(clock[name] > 0 for name in ENTRIES if name != "checkpoint_s")


@pytest.mark.slow
def test_the_ledger_of_a_resumed_run_adds_up_and_goes_on_from_its_checkpoint(tmp_path, no_figures):
    assert micro.speedrun(tmp_path, "run.stop_after_step=20") == 0
    run_folder = micro.the_folder(tmp_path)
    before = checkpoint.load(run_folder / "checkpoints", 20).meta.ledger
    micro.run(tmp_path)
    clock = micro.record(run_folder).clock.content()
    assert sum(seconds for name, seconds in clock.items() if name != "wall_s") == pytest.approx(clock["wall_s"], abs=1e-6)
    assert all(clock[name] >= before[name] for name in ENTRIES) and clock["wall_s"] > before["wall_s"]
    times = [row["train_s"] for row in micro.rows(run_folder, "validation")]
    assert times == sorted(times) and times[-1] == clock["train_s"]
    assert times[-1] > before["train_s"] >= times[1]


def spent(tmp_path):
    """The ledger of a run of 8 steps under whatever is patched."""
    run_folder = micro.run(
        tmp_path, "budget.tokens=2048", "validation.steps=[2,4,6]", "run.log_every_steps=1", lane=micro.DENSE
    )
    return micro.record(run_folder).clock


def test_validation_is_off_the_training_clock(tmp_path, monkeypatch, paused, no_figures):
    monkeypatch.setattr(harness.train.loop, "score", paused(harness.train.loop.score))
    clock = spent(tmp_path)
    assert clock.validation_s >= 3 * PAUSE_S > clock.train_s


@pytest.mark.slow
def test_checkpoints_are_off_the_training_clock(tmp_path, monkeypatch, paused, no_figures):
    monkeypatch.setattr(checkpoint, "save", paused(checkpoint.save))
    clock = spent(tmp_path)
    assert clock.checkpoint_s == 0  # none is due in so short a run
    assert micro.speedrun(tmp_path / "cut", "run.stop_after_step=3") == 0
    meta = checkpoint.load(micro.the_folder(tmp_path / "cut") / "checkpoints", 3).meta
    micro.run(tmp_path / "cut", "run.checkpoint_every_s=0")
    clock = micro.record(micro.the_folder(tmp_path / "cut")).clock
    assert clock.checkpoint_s >= 28 * PAUSE_S > clock.train_s > meta.ledger["train_s"]


def test_everything_else_counts_writing_the_log_among_it(tmp_path, monkeypatch, paused, no_figures):
    monkeypatch.setattr(MetricsLog, "append", paused(MetricsLog.append))
    clock = spent(tmp_path)
    assert clock.train_s >= 16 * PAUSE_S  # a step row and a window row for each of 8 steps


def test_an_entry_is_booked_even_where_its_work_fails():
    clock = Clock()
    with pytest.raises(ZeroDivisionError), clock.entry("validation_s"):
        time.sleep(0.01)
        1 / 0  # noqa: B018
    assert clock.ledger["validation_s"] >= 0.01
    with pytest.raises(AssertionError), clock.entry("coffee_s"):
        pass
