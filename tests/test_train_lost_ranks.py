"""A rank that dies ends the others at once, with its step named and the last checkpoint kept."""

import time

import micro
import processes
import pytest
from micro import no_figures_fixture  # noqa: F401
from units_on_ranks import UNITS

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
