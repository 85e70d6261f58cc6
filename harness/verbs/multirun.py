"""Sweeps: Hydra's --multirun with its sweepers and launchers; every job is a `speedrun` process of its own.

A process a job keeps peak memory, clocks and compiled code of one run away from the next. The job's value, which a searching
sweeper minimizes, is val_bpb.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from harness.errors import UserError
from harness.plan import lanes
from harness.plan.compose import known_words
from harness.record.read import read_record

QUIET = (
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
)
RECORD_LINE = "record: "


def multirun(words: list[str]) -> int:
    """Runs every job, then prints one line each. Exit status 1 when any failed; the others still run."""
    lanes.register()
    known_words(words, sweeps=True)
    outcomes: list[tuple[list[str], int, Path | None]] = []

    @hydra.main(config_path=str(lanes.RECIPES), config_name="plan", version_base="1.3")
    def job(_: DictConfig) -> float:
        overrides = list(HydraConfig.get().overrides.task)
        print(f"\n== {' '.join(overrides)}", flush=True)
        code, record = run_one(overrides)
        outcomes.append((overrides, code, record))
        return read_record(record.parent)["metrics"]["val_bpb"] if record else float("inf")

    with tempfile.TemporaryDirectory() as hydras:  # its multirun.yaml would make the tree dirty, and every job unranked
        sys.argv = ["harness speedrun", "--multirun", *words, *QUIET, f"hydra.sweep.dir={hydras}"]
        job()
    _summary(outcomes)
    if not outcomes:
        raise UserError("no job ran", "check the sweep's values")
    return int(any(code for _, code, _ in outcomes))


def run_one(overrides: list[str]) -> tuple[int, Path | None]:
    """One `speedrun` in its own process, its output passed on. Returns exit status and record path."""
    command = [sys.executable, "-m", "harness", "speedrun", *overrides]
    record = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith(RECORD_LINE):
                record = Path(line.removeprefix(RECORD_LINE).strip())
        code = process.wait()
    return code, record


def _summary(outcomes: list[tuple[list[str], int, Path | None]]) -> None:
    print(f"\n{'to target':>12}{'slice':>9}{'all val':>9}{'tokens/s':>10}")
    finished = []
    for overrides, code, record in outcomes:
        if record is None:
            print(f"{'failed':>12}{'exit ' + str(code):>9}{'':>19}   {' '.join(overrides)}")
            continue
        m = read_record(record.parent)["metrics"]
        finished.append(m["val_bpb"])
        target = f"{m['time_to_target_s']:.1f} s" if m["time_to_target_s"] is not None else "not reached"
        row = f"{target:>12}{m['slice_bpb']:>9.4f}{m['val_bpb']:>9.4f}{m['tokens_per_second']:>10,.0f}"
        print(f"{row}   {' '.join(overrides)}")
    if len(finished) > 1:
        print(
            f"val_bpb: mean {statistics.mean(finished):.4f}, sd {statistics.stdev(finished):.4f} over n = {len(finished)} runs"
        )
