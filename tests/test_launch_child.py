"""Children of the harness: what they say, when their time is up, and signals that reach the parent alone."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.launch import child
from harness.plan.lanes import ROOT
from harness.train.signals import PASSED_ON, Stop, number_of

PYTHON = (sys.executable, "-c")
pytestmark = pytest.mark.process
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2]
# Begins, and takes half a second to end well once it is told to; a second signal ends it with status 9.
PATIENT = """
import pathlib, signal, sys, time
told = []
def stop(number, frame):
    told.append(number)
    if len(told) > 1:
        sys.exit(9)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
    signal.signal(number, stop)
pathlib.Path(sys.argv[1]).touch()
while not told:
    time.sleep(0.01)
time.sleep(0.5)
pathlib.Path(sys.argv[2]).write_text(str(int(told[0])))
"""


def python(code, *words, **settings):
    return child.run([code, *map(str, words)], program=PYTHON, **settings)


def signal_once_there(path: Path, *numbers: int, pause: float = 0.0) -> None:
    def send() -> None:
        while not path.exists():
            time.sleep(0.01)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(pause)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_parent_reaches_the_child_once_and_is_raised_after_the_childs_end(tmp_path, number):
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    signal_once_there(begun, number)
    with pytest.raises(KeyboardInterrupt) as raised:
        python(PATIENT, begun, ended)
    assert number_of(raised.value) == number and ended.read_text() == str(int(number))


def test_whoever_asks_for_it_is_told_of_a_time_limit_and_hears_how_the_child_ended(tmp_path):
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    signal_once_there(begun, signal.SIGUSR2)
    found = python(PATIENT, begun, ended, tells=True)
    assert found == child.Ended(0, "", told=True) and ended.read_text() == str(int(signal.SIGUSR2))
    assert not python("pass", tells=True).told
    begun.unlink()
    signal_once_there(begun, signal.SIGTERM)  # any other is raised as ever
    with pytest.raises(KeyboardInterrupt):
        python(PATIENT, begun, ended, tells=True)


def test_a_second_signal_is_passed_on_too(tmp_path):
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    signal_once_there(begun, signal.SIGTERM, signal.SIGTERM, pause=0.1)
    with pytest.raises(KeyboardInterrupt):
        python(PATIENT, begun, ended)
    assert not ended.exists()


def test_a_terminals_signals_reach_the_parent_alone(tmp_path):
    """Else Ctrl-C would reach a child twice, and twice means at once."""
    ended = python("import os; print(os.getpgid(0) == os.getpid())")
    assert ended.said == "True\n"


def test_a_signal_that_a_scheduler_sends_beside_the_parent_counts_once(monkeypatch):
    monkeypatch.setenv(PASSED_ON, "1")
    with Stop().heard() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        monkeypatch.delenv(PASSED_ON)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_child_whose_time_is_up_is_asked_to_end_and_then_ended(monkeypatch):
    assert (ended := python("import time; time.sleep(60)", limit_s=0.3)).late and ended.status == -signal.SIGTERM
    monkeypatch.setattr(child, "GRACE_S", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    assert (ended := python(deaf, limit_s=1.0)).late and ended.status == -signal.SIGKILL and ended.said == "1\n"


def test_what_it_says_is_kept_apart_joined_or_written_behind_what_a_log_holds(tmp_path):
    code = "import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr); sys.exit(3)"
    assert python(code, errors="apart") == child.Ended(3, "out\n", "err\n")
    assert python(code).said == "out\nerr\n"
    log, heard = tmp_path / "log.txt", []
    log.write_text("before\n")
    assert python(code, log=log).said == "out\nerr\n" and log.read_text() == "before\nout\nerr\n"
    python(code, heard=heard.append)
    assert heard == ["out\n", "err\n"]


def test_the_record_is_the_one_that_the_last_line_names():
    assert child.Ended(0, "record: a\nrecord: runs/x y/record.json\n").record == Path("runs/x y/record.json")
    assert child.Ended(0, "record: a\nstopped with a checkpoint\n").record is None and child.Ended(1, "").record is None


def test_a_child_finds_this_checkouts_harness_from_anywhere_and_another_checkouts_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = "import harness; print(harness.__path__[0])"
    assert python(where).said == f"{ROOT / 'harness'}\n"
    (tmp_path / "tree" / "harness").mkdir(parents=True)
    (tmp_path / "tree" / "harness" / "__init__.py").touch()
    assert python(where, folder=tmp_path / "tree").said == f"{tmp_path / 'tree' / 'harness'}\n"


def test_only_the_launcher_starts_another_python():
    """`tune` puts a fresh interpreter in its own place: Triton reads its environment when it is imported. A corpus that lies in
    wheels has pip download them. The audit of open lanes starts none: it knows by its path which one was."""
    users = {str(path.relative_to(ROOT)) for path in (ROOT / "harness").rglob("*.py") if "sys.executable" in path.read_text()}
    starts = {"harness/launch/child.py", "harness/verbs/tune.py", "harness/data/texts/pythonbible.py"}
    assert users == {*starts, "harness/train/audit.py"}
