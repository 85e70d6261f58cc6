"""Whether a run has its machine to itself: the meter on the clock, a real competitor, a resume, and a GPU's nvidia-smi."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import micro
import pytest
import torch
from micro import finished_fixture, no_figures_fixture, stopped_fixture  # noqa: F401

from harness.progress import Glance, Progress
from harness.record.documents import OccupancyState
from harness.record.occupancy import Occupancy, untimed_reasons
from harness.report.integrity import check
from harness.report.run_data import load_run
from harness.train import checkpoint, gpu
from harness.train.clock import Clock
from harness.train.occupancy import Look, Meter, look_alone
from harness.train.processors import NotMeasured, Processors, Reading

HERE = SimpleNamespace(device="cpu", threads=2, world_size=1)


class Counted(Processors):
    """Two cores whose counters a test sets."""

    def __init__(self):
        self.cores, self.busy, self.own, self.reads, self.broken = [0, 1], 0.0, 0.0, 0, ""

    def read(self):
        if self.broken:
            raise NotMeasured(self.broken)
        self.reads += 1
        return Reading(self.busy, self.own, {}, None)

    def spend(self, own, others):
        self.own, self.busy = self.own + own, self.busy + own + others


@contextmanager
def competitors():
    """As many busy processes as there are cores, once they are busy."""
    spin = "print(1, flush=True)\nwhile True: pass"
    cores = len(os.sched_getaffinity(0))
    all_of_them = [subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) for _ in range(cores)]
    try:
        for each in all_of_them:
            each.stdout.readline()
        yield
    finally:
        for each in all_of_them:
            each.kill(), each.wait(), each.stdout.close()


def test_only_what_happens_on_the_training_clock_counts():
    counted = Counted()
    meter = Meter(counted, HERE, {})
    clock = Clock(switched=meter.switch)
    with clock.entry("warmup_s"):
        counted.spend(5, 5)
    with clock.entry("train_s"):
        counted.spend(3, 1)
        with clock.entry("validation_s"):
            counted.spend(7, 7)
        counted.spend(2, 0.5)
        row = meter.close_window(4.0)
        counted.spend(1, 0)
        with clock.entry("checkpoint_s"):
            counted.spend(7, 7)
        last = meter.close_window(5.0)
    counted.spend(9, 9)
    assert row == pytest.approx({"cores": 2, "own_s": 5.0, "others_s": 1.5, "taken_s": 1.5})
    assert last == pytest.approx({"cores": 2, "own_s": 1.0, "others_s": 0.0, "taken_s": 0.0})
    found = meter.as_record(5.0)
    assert (found.own_s, found.others_s, found.share) == (6.0, 1.5, 0.15)


def test_a_window_is_read_at_its_end_and_at_pauses_alone_never_by_step(tmp_path, monkeypatch, no_figures):
    reads = []
    read = Processors.read
    monkeypatch.setattr(Processors, "read", lambda self: reads.append(1) or read(self))
    micro.run(tmp_path, "validation.steps=[16]", "run.checkpoint_every_s=1e9", lane=micro.DENSE)
    windows, pauses = micro.STEPS // 4, 2  # a validation and the peak in the middle
    before_it_starts, ends = 3, 2  # whether it can be read, and the look; the clock starts and stops
    assert len(reads) == before_it_starts + ends + windows + 2 * pauses


def test_totals_go_on_from_a_checkpoint_as_if_nobody_had_stopped():
    counted = Counted()
    first = Meter(counted, HERE, {})
    first.switch(True)
    counted.spend(2, 1)
    first.close_window(2.0)
    counted.spend(1, 0.5)
    first.switch(False)
    first.look("before", 4e11)
    again = Counted()
    kept = OccupancyState(**json.loads(json.dumps(first.state()))).content()
    assert Meter(again, HERE, kept, step=3).as_record(2.0).cores == 2  # of a run that has closed its last window
    second = Meter(again, HERE, kept, step=3)
    second.switch(True)
    again.spend(1, 0.25)
    row = second.close_window(4.0)
    assert row == pytest.approx({"cores": 2, "own_s": 2.0, "others_s": 0.75, "taken_s": 0.75})
    found = second.as_record(4.0)
    assert (found.own_s, found.others_s, found.peaks) == (4.0, 1.75, {"before": 4e11})


@pytest.mark.parametrize("found", ["there is no /proc/stat here", Counted()])
def test_a_run_that_cannot_measure_says_so_instead_of_nothing(found):
    meter = Meter(found, HERE, {})
    meter.switch(True)
    if isinstance(found, Counted):
        found.broken = "/proc cannot be read"
    assert meter.close_window(1.0) is None
    record = meter.as_record(1.0)
    assert record.not_measured in ("there is no /proc/stat here", "/proc cannot be read") and record.others_s is None
    assert untimed_reasons(record, "x, revision 3")


def test_counters_that_hold_less_than_the_run_used_are_not_believed():
    counted = Counted()
    meter = Meter(counted, HERE, {})
    meter.switch(True)
    counted.spend(10, -8)
    meter.close_window(5.0)
    assert "hold less than the run itself has used" in meter.as_record(5.0).not_measured


def test_a_checkpoint_of_before_it_was_measured_leaves_the_run_unmeasured():
    assert "begun by a harness" in Meter(Counted(), HERE, {}, step=8).as_record(1.0).not_measured


def test_a_run_beside_busy_processes_keeps_its_bits_and_loses_its_seconds(tmp_path, finished, no_figures, capsys):
    with competitors():
        disturbed = micro.run(tmp_path)
    assert micro.bits(disturbed) == micro.bits(finished("moe"))
    record = micro.record(disturbed)
    assert record.occupancy.share > 0.1 and "other processes took" in record.disturbed and record.untimed_reasons
    assert list(record.occupancy.peaks) == ["before", "middle", "after"]
    assert "machine busy: others took" in capsys.readouterr().out
    rows = micro.rows(disturbed, "window")
    for name in ("own_s", "others_s", "taken_s"):
        assert sum(row["occupancy"][name] for row in rows) == pytest.approx(getattr(record.occupancy, name), abs=1e-9)
    assert check(load_run(disturbed)) == []


def test_a_look_beside_busy_processes_sees_them():
    with competitors():
        look = look_alone()
        time.sleep(0.4)
        assert look.taken(HERE) > 0.3


def test_a_look_that_was_too_short_or_impossible_says_nothing():
    assert look_alone().taken(HERE) is None and Look("no /proc").taken(HERE, least_s=0.0) is None


def test_the_live_line_says_that_the_machine_is_busy_while_it_is(capsys):
    glance = dict(step=1, steps=2, tokens=1, loss=1.0, bits=1.0, tokens_per_second=1.0, mfu=0.1, entropy_ratio=None, eta_s=1.0,
                  slice_bpb=None)  # fmt: skip
    Progress().show(Glance(**glance, taken=0.41))
    Progress().show(Glance(**glance))
    busy, quiet = capsys.readouterr().out.splitlines()
    assert "machine busy: others took 41%" in busy and "busy" not in quiet


def test_measuring_a_peak_draws_no_number_that_training_might(tmp_path):
    session = micro.session()
    before = torch.get_rng_state()
    assert session.machine.matmul_peak_now() > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resumed_run_sums_over_all_its_windows(stopped, no_figures):
    home = stopped.parents[1]
    kept = checkpoint.load(stopped / "checkpoints", 12).meta.occupancy
    assert micro.speedrun(home, "run.log_every_steps=1") == 0
    run = load_run(stopped)
    assert run.record.resumes == 1 and check(run) == []
    assert run.record.occupancy.own_s > kept.total["own_s"] > 0


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A program of that name that says what a test tells it."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(gpu, "SETTLES_S", 0.0)
    monkeypatch.setattr(gpu, "synchronize", lambda device: None)
    monkeypatch.setattr(gpu, "_identity", lambda: "GPU-1")

    def says(processes, figures, status=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(
            f'#!/bin/sh\ncase "$*" in *compute-apps*) printf "{processes}";; *) printf "{figures}";; esac\nexit {status}\n'
        )
        program.chmod(0o755)

    return says


@pytest.mark.parametrize(
    "processes, figures, expected, disturbed",
    [
        ("4242\\n", "0, 1755, 1980\\n", {"others": 0, "utilization": 0.0, "clock_mhz": 1755, "most_clock_mhz": 1980}, ""),
        ("4242\\n7\\n", "0, 1755, 1980\\n", {"others": 1}, "1 other process on its GPU (middle)"),
        ("", "64, [N/A], 1980\\n", {"others": None, "utilization": 0.64, "clock_mhz": None}, "kept its GPU 64% busy"),
    ],
)
def test_what_nvidia_smi_says_decides_whose_the_gpu_was(nvidia_smi, processes, figures, expected, disturbed):
    nvidia_smi(processes, figures.replace("%", "%%"))
    found = gpu.look(own=1)
    assert {key: getattr(found, key) for key in expected} == expected
    rest = {"cores": 8, "threads": 2, "own_s": 1.0, "others_s": 0.0, "taken_s": 0.0, "share": 0.0, "peaks": {}}
    reasons = untimed_reasons(Occupancy(**rest, gpu={"middle": found.content()}), "x, revision 3")
    assert disturbed in "; ".join(reasons) and bool(reasons) == bool(disturbed)


@pytest.mark.parametrize("words", [("", "[N/A], 1, 2\\n"), ("1\\n", "0, 1, 2\\n", 9), None])
def test_a_gpu_that_nvidia_smi_does_not_tell_of_is_not_measured_and_the_record_says_so(nvidia_smi, monkeypatch, words):
    monkeypatch.setenv("PATH", "/nowhere") if words is None else nvidia_smi(*words)
    meter = Meter(Counted(), SimpleNamespace(device="cuda", threads=8, world_size=1), {})
    meter.look("before", 1e15)
    found = meter.as_record(1.0)
    assert "nvidia-smi" in found.gpu_not_measured and found.gpu is None
    assert any("whether its GPU was its own was not measured" in why for why in untimed_reasons(found, "x, revision 3"))
