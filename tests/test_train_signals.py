"""Signals at every moment of a run: a sentence, the status of the signal, and the same command goes on to the same bits."""

import errno
import os
import signal
import sys
from functools import cache
from pathlib import Path

import micro
import pytest
from micro import bits, finished_fixture, no_figures_fixture  # noqa: F401

import harness.data.prepare
import harness.record.record
import harness.train.run
from harness.__main__ import main
from harness.evaluate.bpb import Score
from harness.train.health import Monitor
from harness.train.session import Session

pytestmark = [pytest.mark.usefixtures("no_figures"), pytest.mark.slow]
NUMBERS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR2, 140)]


SHORT = ("budget.tokens=2048", "validation.steps=[4]")
CAPPED = ("balance.capacity_factor=1.0",)  # a run whose last window is judged at the very end


@cache
def untouched(base: Path, words: tuple[str, ...]) -> Path:
    return micro.run(base, *words)


def gone():
    return OSError(errno.EIO, os.strerror(errno.EIO))  # a fresh one: a traceback would keep the run folder locked


def after(patch, module, name, number):
    """The signal arrives when this function has done its work."""
    original = getattr(module, name)

    def signalled(*words, **options):
        found = original(*words, **options)
        signal.raise_signal(number)
        return found

    patch.setattr(module, name, signalled)


def at_step(patch, step, number):
    see = Monitor.see

    def signalled(self, at, *rest):
        see(self, at, *rest)
        if at == step:
            signal.raise_signal(number)

    patch.setattr(Monitor, "see", signalled)


@pytest.mark.parametrize("number, status", NUMBERS)
@pytest.mark.parametrize(
    "module, name",
    [(harness.data.prepare, "prepare"), (harness.train.run, "open_folder"), (harness.train.run, "warm_up")],
    ids=["preparing data", "with an empty folder", "compiling and warming up"],
)
def test_a_signal_before_the_first_step_says_one_line_and_the_same_command_starts_it(
    tmp_path, tmp_path_factory, monkeypatch, capsys, module, name, number, status
):
    before = [signal.getsignal(n) for n, _ in NUMBERS]
    with monkeypatch.context() as patch:
        after(patch, module, name, number)
        assert micro.speedrun(tmp_path, *SHORT) == status
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("interrupted; the same command goes on")
    assert [signal.getsignal(n) for n, _ in NUMBERS] == before
    run_folder = micro.run(tmp_path, *SHORT)
    assert micro.the_folder(tmp_path) == run_folder
    assert bits(run_folder) == bits(untouched(tmp_path_factory.getbasetemp() / "short", SHORT))
    assert micro.record(run_folder).resumes == 0


@pytest.mark.parametrize("number, status", NUMBERS)
def test_a_signal_during_the_final_scores_leaves_the_last_step_from_which_they_are_made_anew(
    tmp_path, tmp_path_factory, monkeypatch, capsys, number, status
):
    expected = untouched(tmp_path_factory.getbasetemp() / "capped", CAPPED)
    with monkeypatch.context() as patch:
        bpb, seen = Score.bpb, []

        def signalled(self, *rest):
            seen.append(1)
            if len(seen) == 5:  # three validations, the shuffled control and the curve's last point
                signal.raise_signal(number)
            return bpb(self, *rest)

        patch.setattr(Score, "bpb", signalled)
        assert micro.speedrun(tmp_path / "cut", *CAPPED) == status
    run_folder = micro.the_folder(tmp_path / "cut")
    assert f"stopped with a checkpoint in {run_folder}" in capsys.readouterr().out
    assert micro.checkpointed_steps(run_folder) == [micro.STEPS] and not (run_folder / "record.json").exists()
    assert micro.rows(run_folder, "final") == [] and len(micro.rows(run_folder, "validation")) == 3
    assert micro.run(tmp_path / "cut", *CAPPED) == run_folder
    assert bits(run_folder) == bits(expected)
    ours, theirs = micro.record(run_folder), micro.record(expected)
    assert ours.router_health == theirs.router_health and all(layer.dropped > 0 for layer in theirs.router_health.layers)
    assert ours.metrics.val_bpb == theirs.metrics.val_bpb
    assert [row["step"] for row in micro.rows(run_folder, "validation")] == [8, 16, 24, 32]
    assert len(micro.rows(run_folder, "final")) == 1 and ours.resumes == 0  # of a training that had ended


@pytest.mark.parametrize("late", [False, True], ids=["while it computes", "while its numbers are read"])
def test_a_signal_in_the_last_step_stops_there(tmp_path, finished, monkeypatch, late):
    step = Session.step

    def signalled(self, index, **words):
        if index == micro.STEPS - 1:
            signal.raise_signal(signal.SIGTERM)
        return step(self, index, **words)

    with monkeypatch.context() as patch:
        if late:
            at_step(patch, micro.STEPS, signal.SIGTERM)
        else:
            patch.setattr(Session, "step", signalled)
        assert micro.speedrun(tmp_path) == 143
    assert micro.checkpointed_steps(micro.the_folder(tmp_path)) == [micro.STEPS]
    assert bits(micro.run(tmp_path)) == bits(finished())


def test_a_signal_while_the_record_is_written_lets_it_be_written(tmp_path, monkeypatch, capfd):
    write = harness.record.record.content_hash

    def signalled(content):
        signal.raise_signal(signal.SIGTERM)
        return write(content)

    monkeypatch.setattr(harness.record.record, "content_hash", signalled)
    run_folder = micro.run(tmp_path)
    said = capfd.readouterr().out
    assert "the record is being written" in said and said.splitlines()[-1] == f"record: {run_folder / 'record.json'}"


def test_a_connection_that_breaks_leaves_a_checkpoint_though_nothing_can_be_said_any_more(tmp_path, finished, monkeypatch):
    class Terminal:
        gone = False

        def write(self, text):
            if self.gone:
                raise gone()

        def flush(self):
            self.write("")

        def isatty(self):
            return True

        def fileno(self):
            return nowhere

    def write(descriptor, content):
        raise gone()

    nowhere, terminal, see = os.open(os.devnull, os.O_WRONLY), Terminal(), Monitor.see

    def broken(self, step, *rest):
        see(self, step, *rest)
        if step == 9:
            terminal.gone = True
            signal.raise_signal(signal.SIGHUP)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "see", broken)
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        patch.setattr("harness.train.signals.os.write", write)
        assert micro.speedrun(tmp_path, "run.log_every_steps=1") == 129
    os.close(nowhere)
    assert micro.checkpointed_steps(micro.the_folder(tmp_path)) == [10]
    assert bits(micro.run(tmp_path)) == bits(finished())


def test_under_nohup_a_closed_connection_changes_nothing(tmp_path, finished, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patch:
            at_step(patch, 9, signal.SIGHUP)
            run_folder = micro.run(tmp_path)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert bits(run_folder) == bits(finished()) and micro.record(run_folder).resumes == 0


@pytest.mark.parametrize("number, status", NUMBERS)
def test_every_verb_ends_with_the_status_of_its_signal(monkeypatch, capsys, number, status):
    monkeypatch.setattr("harness.verbs.lanes.main", lambda words: signal.raise_signal(number))
    assert main(["lanes"]) == status
    assert capsys.readouterr().err.startswith("interrupted; ")
