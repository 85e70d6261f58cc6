"""What ranks cannot begin together is said once, by the first of them; all end with the same status."""

import socket

import micro
import processes
import pytest
import torch

from harness import ranks
from harness.errors import UserError

pytestmark = pytest.mark.process
WORLD = 2
EP = ["parallel.sums=units", "parallel.micro_batch_tokens=64"]
SECOND = "import os\nsecond = os.environ['RANK'] == '1'\n"
# What the second rank alone has or meets, as code that its processes begin with.
OTHER_COMMIT = """
import harness.record.provenance as provenance
if second:
    provenance.commit = lambda: ("f" * 40, False)
"""
OTHER_THREADS = """
import torch
torch.set_num_threads(2 if second else 1)
"""
OTHER_WORDS = """
import sys
if second:
    sys.argv.append("seed=7")
"""
NO_DATA = """
import harness.data.corpora as corpora
from harness.errors import UserError
load_for = corpora.load_for
def missing(plan):
    if second:
        raise UserError("no such file on this machine", "fetch it")
    return load_for(plan)
corpora.load_for = missing
"""
NO_WORD = """
import sys
if second:
    sys.argv.append("sed=7")
"""


def refused(tmp_path, *words, alone=""):
    """What the first rank says, where both refuse and the other one says nothing."""
    micro.prepared(micro.cache_folder())
    words = ["speedrun", *micro.MOE, *words, f"run.folder={tmp_path / 'runs'}"]
    first, other = processes.run_ranks(WORLD, SECOND + alone + processes.NO_FIGURES + processes.MAIN, *words)
    assert (first.returncode, other.returncode) == (2, 2), first.stderr + other.stderr
    assert first.stderr.count("error: ") == 1 and "Traceback" not in first.stderr
    assert other.stderr == "" and other.stdout == ""
    assert not list((tmp_path / "runs").rglob("identity.json"))
    return first.stderr


@pytest.mark.parametrize(
    "words, said",
    [
        (["sed=2"], "did you mean seed?"),
        (["--no-such-switch"], "--no-such-switch"),
        (["model.top_k=99"], "model.top_k=99"),
        ([*EP, "parallel.ep=4"], "parallel.ep=4 with 2 ranks"),
        (["parallel.micro_batch_tokens=96"], "micro-batches of 3 sequences"),
        (["--multirun", "seed=1,2"], "each of which would start the whole sweep"),
        (["fork=nowhere@last"], "fork=nowhere@last: no such checkpoint"),
    ],
)
def test_a_mistake_is_said_once_and_ends_every_rank(words, said, tmp_path):
    assert said in refused(tmp_path, *words)


@pytest.mark.parametrize("alone, said", [(NO_DATA, "no such file on this machine\n  fetch it"), (NO_WORD, "'sed'")])
def test_what_another_rank_alone_meets_is_said_by_the_first(alone, said, tmp_path):
    assert said in refused(tmp_path, alone=alone)


@pytest.mark.parametrize(
    "alone, name, value",
    [
        (OTHER_COMMIT, "commit", f"'{'f' * 40}' on rank 1"),
        (OTHER_THREADS, "hardware class", ", 2 threads, "),
        (OTHER_WORDS, "words", "seed=7' on rank 1"),
    ],
    ids=["commit", "threads", "words"],
)
def test_ranks_that_differ_are_named_at_the_start(alone, name, value, tmp_path):
    said = refused(tmp_path, alone=alone)
    assert f"ranks of one run differ in {name}: " in said and value in said


def test_ranks_that_do_not_meet_say_where(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = processes.run(
            processes.MAIN, "speedrun", *micro.MOE, f"run.folder={tmp_path}",
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE="2", RANK="0", LOCAL_RANK="0",
        )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: rank 0 of 2, on " in done.stderr and f"did not meet the others at 127.0.0.1:{port}: " in done.stderr


@pytest.mark.parametrize("local, started", [("0", "8"), ("3", "8"), ("4", None)])
def test_more_ranks_than_gpus_on_a_machine_are_refused_by_the_first_of_them(local, started, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if started:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", started)
    with pytest.raises(UserError, match=f"{started or 5} ranks were started on .* they see 4 GPUs") as refused:
        ranks._gpu()
    assert "--nproc-per-node 4" in refused.value.remedy and refused.value.said_elsewhere == (local != "0")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert ranks._gpu() == 3


SIGNALLED = """
import signal, harness.train.session as session
step = session.Session.step
def told(self, index, *rest, **words):
    found = step(self, index, *rest, **words)
    if second and index == 10:
        signal.raise_signal(signal.SIGUSR2)
    return found
session.Session.step = told
"""


def test_a_signal_to_one_rank_ends_all_with_its_status_and_a_checkpoint(tmp_path):
    micro.prepared(micro.cache_folder())
    words = ["speedrun", *micro.MOE, *EP, f"run.folder={tmp_path}"]
    done = processes.run_ranks(WORLD, SECOND + SIGNALLED + processes.NO_FIGURES + processes.MAIN, *words)
    assert [rank.returncode for rank in done] == [140, 140], done[0].stderr + done[1].stderr
    assert "stopped with a checkpoint in" in done[0].stdout
    assert micro.checkpointed_steps(micro.the_folder(tmp_path)) == [11]
