"""Runs whose experts are spread over processes: left, killed and gone on with another number of them, to the bits of one."""

import json
import signal

import micro
import processes
import pytest
from micro import no_figures_fixture  # noqa: F401
from test_train_ranks import run_ranks
from units_on_ranks import UNITS

from harness.record import checkpoint_files
from harness.train import checkpoint, weights
from harness.train.chain import hash_tensors, hash_weights

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.usefixtures("no_figures")]

OPTIMIZERS = [
    (),
    ("optim.matrices=soap",),
    ("optim.matrices=schedule_free", "optim.others=schedule_free", "schedule.decay_share=0"),
]
# What each process does: it warms up, which changes nothing, and takes some steps; then a checkpoint, the file of weights and
# their hash.
STEPS = """
import json, sys
from pathlib import Path
import micro
from units_on_ranks import UNITS
from harness.ranks import join, leave
from harness.train import checkpoint, weights
from harness.train.chain import hash_tensors, hash_weights
from harness.train.clock import Clock
from harness.train.determinism import set_torch
from harness.train.warmup import warm_up
from test_train_disk import state

folder, *words = sys.argv[1:]
set_torch()
ranks = join(timeout_s=120)
built = micro.session(*words, *UNITS, f"parallel.ep={ranks.world}", ranks=ranks)
warm_up(built, Clock(), built.corpus.val[:4096], 0, None)
for index in range(3):
    built.step(index)
checkpoint.save(Path(folder), 3, built.state(), state(3), keep=1, shards=built.shards)
weights.write(Path(folder, "weights"), built.model.state_dict(), built.shards)
found = {"weights": hash_weights(built.model, built.shards), "state": hash_tensors(built.shards.whole_state(built.state()))}
Path(folder, f"{ranks.rank}.json").write_text(json.dumps(found))
leave(ranks)
"""
EVERY_STEP = ("run.checkpoint_every_s=0", "run.log_every_steps=1")
DIES_WHILE_NAMING_ITS_SLICES = """
import os, signal, sys
replace = os.replace
def die(source, target):
    if str(target).endswith("step-000020.rank-001-of-002.safetensors"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = die
from harness.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
FULL_ON_THE_SECOND_RANK = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from harness.train import checkpoint
save = checkpoint.save
def save_until_full(folder, step, *rest, **words):
    if step == 14 and os.environ["RANK"] == "1":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    save(folder, step, *rest, **words)
checkpoint.save = save_until_full
from harness.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def spread(world):
    return (*UNITS, f"parallel.ep={world}")


@pytest.fixture(name="whole")
def whole_fixture(tmp_path_factory, no_figures):
    """A run in one process that nobody disturbed."""
    return micro.made_once(micro.shared(tmp_path_factory) / "whole-units", lambda home: micro.run(home, *UNITS))


def same_run(run, whole):
    assert micro.bits(run) == micro.bits(whole)
    assert (run / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert micro.losses(run) == micro.losses(whole)
    assert [row["counts"] for row in micro.rows(run, "window")[-1:]] == [
        row["counts"] for row in micro.rows(whole, "window")[-1:]
    ]


@pytest.mark.parametrize("words", OPTIMIZERS)
@pytest.mark.parametrize("world", [2, 4])
def test_state_hash_weights_and_their_file_are_those_of_one_process(tmp_path, world, words):
    done = processes.run_ranks(world, STEPS, str(tmp_path), *words)
    assert [rank.returncode for rank in done] == [0] * world, "".join(rank.stderr[-2000:] for rank in done)
    alone = micro.session(*words, *UNITS)
    for index in range(3):
        alone.step(index)
    expected = {"weights": hash_weights(alone.model), "state": hash_tensors(alone.state())}
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world)] == [expected] * world
    found = checkpoint.load(tmp_path, 3).tensors
    assert hash_tensors({name: t[...] for name, t in found.items()}) == expected["state"]
    weights.write(tmp_path / "beside", alone.model.state_dict())
    assert (tmp_path / "weights").read_bytes() == (tmp_path / "beside").read_bytes()
    other = micro.session(*words, *UNITS)
    other.restore(found)
    assert hash_tensors(other.state()) == expected["state"]


def test_a_run_that_four_processes_begin_two_go_on_with_and_one_ends_has_the_bits_of_one(tmp_path, whole):
    run_ranks(tmp_path, *spread(4), "run.stop_after_step=9", lane=micro.MOE, world=4)
    folder = micro.the_folder(tmp_path) / "checkpoints"
    names = {checkpoint_files.name(9, rank, 4) for rank in range(4)}
    assert {path.name for path in folder.iterdir()} == names | {"step-000009.json"}
    fork = (f"fork={micro.the_folder(tmp_path)}@9", "run.stop_after_step=1")
    assert micro.speedrun(tmp_path / "fork", *UNITS, *fork) == 0
    done = run_ranks(tmp_path, *spread(2), "run.stop_after_step=20", lane=micro.MOE, world=2)
    assert "".join(rank.stdout for rank in done).count("from step 9") == 1
    same_run(micro.run(tmp_path, *UNITS), whole)


def test_a_run_that_one_process_begins_and_two_end_has_the_bits_and_the_record_of_one(tmp_path, whole):
    assert micro.speedrun(tmp_path, *UNITS, "run.stop_after_step=12") == 0
    run_ranks(tmp_path, *spread(2), lane=micro.MOE, world=2)
    run = micro.the_folder(tmp_path)
    same_run(run, whole)
    ours, theirs = micro.record(run), micro.record(whole)
    assert ours.router_health == theirs.router_health and ours.counts == theirs.counts
    assert ours.metrics.val_bpb == theirs.metrics.val_bpb


def test_a_process_killed_while_it_names_its_slices_leaves_the_last_checkpoint_and_the_run_goes_on_alone(tmp_path, whole):
    words = ("speedrun", *micro.MOE, f"run.folder={tmp_path}", *spread(2), *EVERY_STEP)
    done = processes.run_ranks(2, DIES_WHILE_NAMING_ITS_SLICES, *words)
    assert done[1].returncode == -signal.SIGKILL and done[0].returncode != 0
    assert micro.checkpointed_steps(micro.the_folder(tmp_path)) == [18, 19]
    same_run(micro.run(tmp_path, *UNITS), whole)


def test_a_full_disk_of_one_process_ends_all_with_one_message_and_the_rerun_gives_the_same_bits(tmp_path, whole):
    words = ("speedrun", *micro.MOE, f"run.folder={tmp_path}", *spread(2), *EVERY_STEP)
    done = processes.run_ranks(2, FULL_ON_THE_SECOND_RANK, *words)
    assert [rank.returncode for rank in done] == [2, 2], done[0].stderr + done[1].stderr
    said = "".join(rank.stderr for rank in done)
    assert said.count("cannot write the checkpoint of step 14") == 1 and "it goes on from step 13" in said
    run = micro.the_folder(tmp_path)
    assert micro.checkpointed_steps(run) == [12, 13] and not list((run / "checkpoints").glob("*.tmp"))
    run_ranks(tmp_path, *spread(2), "run.stop_after_step=20", lane=micro.MOE, world=2)
    same_run(micro.run(tmp_path, *UNITS), whole)


def test_ranks_fall_back_together_from_a_checkpoint_of_which_one_slice_is_damaged(tmp_path, whole):
    run_ranks(tmp_path, *spread(4), "run.stop_after_step=12", *EVERY_STEP, lane=micro.MOE, world=4)
    run = micro.the_folder(tmp_path)
    path = run / "checkpoints" / checkpoint_files.name(12, 3, 4)
    path.write_bytes(path.read_bytes()[:-1])
    done = run_ranks(tmp_path, *spread(2), "run.stop_after_step=20", lane=micro.MOE, world=2)
    said = "".join(rank.stdout for rank in done)
    assert said.count(f"{path.name} is corrupt") == 1 and said.count("from step 11") == 1
    same_run(micro.run(tmp_path, *UNITS), whole)
