"""Several processes train one run; numbers agree with one process, and one record is written."""

import os
import subprocess
import sys

import micro
import processes
import pytest
from micro import finished_fixture  # noqa: F401

from harness.errors import UserError
from harness.evaluate.router_health import bias_ranges
from harness.ranks import Ranks
from harness.report.integrity import check
from harness.report.run_data import load_run


def torchrun(folder, *words, lane, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "harness", "speedrun", *lane, f"run.folder={folder}", *words]
    variables = os.environ | {"PYTHONPATH": str(micro.ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=micro.ROOT, env=variables, timeout=120)


def run_ranks(folder, *words, lane, world=2):
    """As `torchrun`, whose launcher and imports take four times as long as these runs; no figures. All ranks must end well."""
    words = ["speedrun", *lane, f"run.folder={folder}", *words]
    done = processes.run_ranks(world, processes.NO_FIGURES + processes.MAIN, *words)
    assert [rank.returncode for rank in done] == [0] * world, done[0].stderr[-2000:] + done[-1].stderr[-2000:]
    return done


@pytest.mark.process
def test_two_processes_give_the_losses_of_one_and_write_one_record_also_after_a_resume(tmp_path, finished):
    cut = torchrun(tmp_path, "run.stop_after_step=12", lane=micro.MOE)
    assert cut.returncode == 0, cut.stderr[-2000:]
    said = "".join(rank.stdout for rank in run_ranks(tmp_path, lane=micro.MOE))
    run_folder = micro.the_folder(tmp_path)
    assert said.count("record: ") == 1 and said.count("resuming ") == 1

    ours, alone = micro.rows(run_folder, "step"), micro.rows(finished(), "step")
    assert [row["step"] for row in ours] == list(range(1, micro.STEPS + 1))
    assert [row["loss"] for row in ours[:8]] == pytest.approx([row["loss"] for row in alone[:8]], rel=5e-3)
    assert ours[-1]["loss"] == pytest.approx(alone[-1]["loss"], rel=3e-2)
    assert [row["grad_norm"] for row in ours[:4]] == pytest.approx([row["grad_norm"] for row in alone[:4]], rel=3e-2)
    for row in micro.rows(run_folder, "window"):
        assert [sum(layer) for layer in row["counts"]] == [4 * 256 * 2] * 2  # of the whole step, not of one rank

    record = micro.record(run_folder)
    metrics, peak = record.metrics, record.hardware.matmul_peak_flops
    assert metrics.val_bpb == pytest.approx(micro.record(finished()).metrics.val_bpb, abs=0.05)
    assert "2 ranks" in record.hardware_class and record.resumes == 1
    machine = record.occupancy  # the other rank is no stranger, before the resume and after it
    assert machine.threads == 2 * record.hardware.threads and 0 < machine.own_s <= 1.2 * 2 * record.clock.train_s
    assert check(load_run(run_folder)) == []
    flops = metrics.tokens_per_second * record.counts.flops_per_token
    assert metrics.mfu == pytest.approx(flops / (2 * peak))  # a share of what both could do


BALANCED = (
    "balance.rule=bias", "balance.rate=0.02", "balance.schedule=cosine", "balance.aux_loss_coef=0.5",
    "balance.sequence_loss_coef=0.25", "balance.z_loss_coef=0.125", "balance.capacity_factor=1.0",
    "optim.expert_gradient_scale=load", "precision.format=fp32", "optim.matrices=adamw", "optim.adamw.eps=1e-3",
)  # fmt: skip


@pytest.mark.process
def test_balancing_rules_are_those_of_the_whole_step_on_two_processes_as_on_one(tmp_path):
    """In fp32, with an update that does not blow up differences. A capacity is one of the micro-batch, of which
    the two processes take two each and the one takes four."""
    words = (*BALANCED, "parallel.micro_batch_tokens=64")
    run_ranks(tmp_path, *words, "run.stop_after_step=3", "run.log_every_steps=1", lane=micro.MOE)
    ours, alone = micro.rows(micro.the_folder(tmp_path), "step"), micro.session(*words)
    windows = micro.rows(micro.the_folder(tmp_path), "window")
    for index, (row, window) in enumerate(zip(ours, windows, strict=True)):
        expected = alone.step(index)
        assert row["loss"] == pytest.approx(float(expected.loss), rel=1e-4)
        assert row["auxiliary"] == pytest.approx({n: float(v) for n, v in expected.auxiliary.items()}, rel=1e-4)
        assert row["grad_norm"] == pytest.approx(float(expected.norms.norm()), rel=1e-3)
        assert window["bias_range"] == pytest.approx(bias_ranges(alone.model), rel=1e-5)
        assert window["counts"] == expected.count_LE.tolist()
        assert window["dropped"] == [rows / 512 for rows in expected.dropped_L.tolist()] and min(window["dropped"]) > 0
    assert len(ours) == 3


@pytest.mark.parametrize("world, words", [(3, ()), (16, ()), (2, ("parallel.micro_batch_tokens=96",))])
def test_ranks_or_micro_batches_that_do_not_divide_the_step_are_refused(world, words):
    with pytest.raises(UserError, match="cannot be cut") as caught:
        micro.session(*words, ranks=Ranks(0, world))
    assert "parallel.micro_batch_tokens" in caught.value.remedy


def test_a_micro_batch_that_does_not_divide_the_step_leaves_no_folder(tmp_path, capsys):
    assert micro.speedrun(tmp_path, "parallel.micro_batch_tokens=96") == 2
    assert "micro-batches of 3 sequences" in capsys.readouterr().err
    assert not list(tmp_path.rglob("identity.json"))


def test_one_process_sums_and_agrees_with_itself():
    alone, tensors = Ranks(0, 1), [micro.torch.arange(3.0)]
    alone.sum_(tensors)
    assert tensors[0].tolist() == [0, 1, 2] and alone.agree(True) and not alone.agree(False)
    assert alone.broadcast({"a": 1}) == {"a": 1}
