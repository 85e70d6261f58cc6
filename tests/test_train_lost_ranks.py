"""A rank that dies ends the others at once, one that stays away after a while: its step is named, the last checkpoint kept."""

import re
import time
from pathlib import Path

import micro
import processes
import pytest
from micro import no_figures_fixture  # noqa: F401
from units_on_ranks import UNITS

from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash

EP = (*UNITS, "parallel.ep=2")
DIES = """
import os, signal, harness.train.session as session
step = session.Session.step
def dying(self, index, *rest, **words):
    if os.environ["RANK"] == "1" and index == 20 and self.plan.run.checkpoint_every_s == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, index, *rest, **words)
session.Session.step = dying
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("own", [UNITS, EP], ids=["sums", "experts"])
def test_a_rank_that_is_killed_ends_the_other_and_the_same_command_goes_on(own, tmp_path, no_figures):
    words = [*micro.MOE, *own, "run.checkpoint_every_s=0", f"run.folder={tmp_path}"]
    begun = time.monotonic()
    survivor, dead = processes.run_ranks(2, processes.NO_FIGURES + DIES + processes.MAIN, "speedrun", *words)
    assert dead.returncode == -9 and survivor.returncode == 2
    assert time.monotonic() - begun < 60
    said = survivor.stderr
    assert "rank 0 of 2 lost another one after step 20, in " in said and "goes on from step 20" in said, said
    assert "Traceback" not in said
    alone = micro.run(tmp_path, *own[: len(UNITS)], "run.checkpoint_every_s=0")
    assert micro.bits(alone) == micro.bits(micro.run(tmp_path / "whole", *UNITS))
    assert micro.record(alone).resumes == 1


WAITS_S, STAYS_AWAY_S = 6, 15  # the latter at most
# The plan's time is a minute or more; here it is cut after it was asked for. Who stays away does so until the other has ended,
# which the file PIDS + RANK names.
HURRIED = f"""
import os, sys, time, harness.ranks as ranks
from contextlib import suppress
from pathlib import Path
join = ranks.join
def hurried(timeout_s):
    print(f"waits {{timeout_s:g}} s", file=sys.stderr)
    Path(os.environ["PIDS"] + os.environ["RANK"]).write_text(str(os.getpid()))
    return join({WAITS_S})
ranks.join = hurried
def quiet(*_, **__):
    until, other = time.monotonic() + {STAYS_AWAY_S}, "10"[int(os.environ["RANK"])]
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.kill(int(Path(os.environ["PIDS"] + other).read_text()), 0)
            time.sleep(0.1)
    os._exit(0)
"""
STOPS_AT_STEP_20 = """
import harness.train.session as session
step = session.Session.step
def stays_away(self, index, *rest, **words):
    return quiet() if os.environ["RANK"] == "1" and index == 20 else step(self, index, *rest, **words)
session.Session.step = stays_away
"""
PREPARES = """
import harness.data.prepare as prepare
prepare.prepare = quiet
"""


def left_waiting(tmp_path: Path, code: str, *words: str) -> list:
    """Both ranks' ends, of a run below `tmp_path` in which one of them stays away."""
    program = processes.NO_FIGURES + HURRIED + code + processes.MAIN
    words = (*micro.MOE, *UNITS, "run.timeout_s=60", f"run.folder={tmp_path / 'runs'}", *words)
    return processes.run_ranks(2, program, "speedrun", *words, PIDS=str(tmp_path / "pid-"))


def waited_s(said: str) -> float:
    """As gloo says it."""
    return int(re.search(r"(\d+)ms", said)[1]) / 1000


@pytest.mark.slow
@pytest.mark.process
def test_a_rank_that_leaves_its_steps_quietly_ends_the_other_in_time(tmp_path, no_figures):
    waiting, quiet = left_waiting(tmp_path, STOPS_AT_STEP_20, "run.checkpoint_every_s=0")
    assert quiet.returncode == 0 and waiting.returncode == 2
    said = waiting.stderr
    assert "waits 60 s" in said and waited_s(said) <= WAITS_S
    assert "rank 0 of 2 lost another one after step 20, in " in said and "run.timeout_s" in said, said
    assert "goes on from step 20" in said and "Traceback" not in said


@pytest.mark.process
def test_a_rank_that_prepares_for_too_long_ends_the_other_which_says_so(tmp_path, no_figures):
    quiet, waiting = left_waiting(tmp_path, PREPARES)
    assert quiet.returncode == 0 and waiting.returncode == 2
    said = waiting.stderr
    assert "rank 1 of 2 lost another one before training, in gathering everyone's values: " in said, said
    assert waited_s(said) <= WAITS_S and "set run.timeout_s" in said and "Traceback" not in said


def test_less_than_a_minute_of_waiting_is_refused_and_no_bit_depends_on_it():
    with pytest.raises(UserError, match="run.timeout_s=59"):
        compose([*micro.MOE, "run.timeout_s=59"])
    assert len({plan_hash(compose([*micro.MOE, f"run.timeout_s={time_s}"]).plan) for time_s in (60, 600)}) == 1
