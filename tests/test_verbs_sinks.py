"""Whatever becomes of what follows a record, the run has ended well: a line of warning, and the record as the last word."""

import os
import resource
import signal
import subprocess
import sys

import micro
import pytest
from report_factory import write_run

from harness.__main__ import main
from harness.launch import child, sinks
from harness.terminal import hold_streams

pytestmark = pytest.mark.slow
CLOSED = """
import os, sys
from harness.__main__ import main
status = main(["report", "--help"])
taken = os.open(os.devnull, os.O_RDONLY)
os._exit(status if taken > 2 else 99)
"""


@pytest.fixture
def folder(tmp_path):
    path = write_run(tmp_path / "runs" / "tiny-moe-16e" / "1-aaaa", steps=32, validations=(16,))
    plan = path / "plan.yaml"
    plan.write_text(plan.read_text() + f"run: {{folder: {tmp_path / 'runs'}}}\n")
    return path


def finish(folder, capfd, track="off"):
    """What is said on standard output and standard error, line by line."""
    sinks.finish(folder / "record.json", track, str(folder.parents[1]))
    return tuple(stream.splitlines() for stream in capfd.readouterr())


def test_table_and_figures_come_first_and_the_record_is_the_last_line(folder, capfd):
    out, err = finish(folder, capfd)
    assert out[-1] == f"record: {folder / 'record.json'}" and sum(line.startswith("record: ") for line in out) == 1
    assert any("this run" in line for line in out) and out[-2].startswith("figures: bpb.png, ") and not err
    assert (folder / "updates.png").exists()


@pytest.mark.parametrize("how", ["a full disk", "a figure's name is taken by a folder", "no matplotlib", "a damaged log"])
def test_figures_that_cannot_be_drawn_are_one_warning_with_the_command_that_draws_them(
    folder, capfd, tmp_path, monkeypatch, how
):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if how == "a figure's name is taken by a folder":
        (folder / "updates.png").mkdir()
    elif how == "no matplotlib":
        (tmp_path / "matplotlib.py").write_text("raise ImportError('none here')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    elif how == "a damaged log":
        (folder / "metrics.jsonl").write_text('{"kind": "step"')
    try:
        if how == "a full disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        out, err = finish(folder, capfd)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out[-1] == f"record: {folder / 'record.json'}"
    (line,) = err
    assert line.startswith("warning: table and figures are not whole: ") and f"`make show RUN={folder}` makes them" in line
    assert not list(folder.glob(".*.part"))


def test_a_twin_that_cannot_be_read_is_a_warning_and_costs_no_figure(folder, capfd):
    twin = folder.parents[1] / "tiny-dense" / "1-bbbb"
    twin.mkdir(parents=True)
    (twin / "record.json").write_text("{")
    out, err = finish(folder, capfd)
    assert out[-2].startswith("figures: bpb.png, ") and [line for line in err if str(twin) in line] == err != []
    assert all(line.startswith("warning: ") for line in err)


def test_show_itself_is_an_error_that_is_explained(folder, capsys):
    (folder / "updates.png").mkdir()
    assert main(["show", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: the figures cannot be written to {folder}: ") and "this run" in said.out


@pytest.mark.parametrize("why", ["dies", "hangs", "cannot start", "is interrupted"])
def test_a_sink_that_ends_badly_is_one_warning_and_the_record_the_last_line(folder, capfd, monkeypatch, why):
    def bad(words, **settings):
        if why in ("dies", "hangs"):
            return child.Ended(-signal.SIGKILL, "", late=why == "hangs")
        raise OSError("no memory") if why == "cannot start" else KeyboardInterrupt(signal.SIGTERM)

    monkeypatch.setattr(child, "run", bad)
    out, err = finish(folder, capfd, track="end")
    assert out == [f"record: {folder / 'record.json'}"] and len(err) == 2
    assert f"make show RUN={folder}" in err[0] and f"python -m harness mlflow {folder}" in err[1]


def test_a_follower_that_cannot_start_is_a_warning(folder, capsys, monkeypatch):
    def bad(*_, **__):
        raise OSError("no memory")

    monkeypatch.setattr(child.subprocess, "Popen", bad)
    sinks.start_follower(folder, "runs")
    assert capsys.readouterr().err.startswith("warning: no follower: no memory")


def test_a_run_whose_output_nobody_takes_ends_well_and_names_its_record_to_standard_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sinks, "show_at_end", lambda run: None)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert micro.speedrun(tmp_path) == 0
        monkeypatch.undo()
    said = capsys.readouterr().err.splitlines()
    assert "the run goes on" in said[0] and "No space left" in said[0]
    assert said[-1] == f"record: {micro.the_folder(tmp_path) / 'record.json'}" and len(said) == 3


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_a_verb_whose_output_cannot_be_written_is_an_error_without_a_traceback(options):
    command = [sys.executable, *options, "-m", "harness", "report", "--help"]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=micro.ROOT, env=variables)
    assert (done.returncode, done.stderr) == (2, "error: standard output cannot be written: No space left on device\n")


def test_closed_streams_are_held_so_that_no_file_takes_their_place():
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, CLOSED], cwd=micro.ROOT, env=os.environ
    )
    assert done.returncode == 0


def test_open_streams_are_left_alone():
    before = [os.fstat(number) for number in range(3)]
    hold_streams()
    assert [os.fstat(number) for number in range(3)] == before
