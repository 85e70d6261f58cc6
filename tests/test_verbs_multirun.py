"""Sweeps through Hydra's --multirun: every job a process, one failing job no reason to stop."""

import json
import os
import re
import statistics
import subprocess
import sys

import micro
import processes
import pytest

# A sweep whose jobs, processes too, draw no figures.
SWEEP = f"""
from harness.launch import child
started = child.started
child.started = lambda words, **how: started(words, **how | {{"program": {processes.UNDRAWN!r}}})
{processes.MAIN}
"""


@pytest.mark.process
def test_a_sweep_runs_every_job_past_a_failing_one_and_leaves_only_the_run_folder(tmp_path):
    """Three seeds, the first of them impossible."""
    words = ["seed=-1,1,2", "budget.tokens=2048", f"run.folder={tmp_path / 'runs'}"]
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, "speedrun", "--multirun", *micro.DENSE, *words],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(micro.ROOT)}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-2000:]
    assert done.stdout.count("== ") == 3 and done.stdout.count("record: ") == 2
    records = [micro.record(path.parent) for path in (tmp_path / "runs").glob("*/*/record.json")]
    assert sorted(record.seed for record in records) == [1, 2]
    bpb = [record.metrics.val_bpb for record in records]
    mean, sd, n = re.search(r"val_bpb: mean ([\d.]+), sd ([\d.]+) over n = (\d) runs", done.stdout).groups()
    assert float(mean) == round(statistics.mean(bpb), 4) and float(sd) == round(statistics.stdev(bpb), 4) and n == "2"
    assert done.stdout.count("exit 2") == 1 and "Traceback" not in done.stderr
    # a file of Hydra's in the repository would make every job of the sweep dirty, so unranked
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    (left,) = (tmp_path / "runs").glob("sweep-*")
    stated = [json.loads(path.read_text()) for path in sorted(left.glob("job-*.json"))]
    assert [bool(outcome["record"]) for outcome in stated] == [False, True, True] and f"sweep: {left}" in done.stdout


@pytest.mark.process
def test_a_mistyped_key_in_a_sweep_names_the_nearest_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "speedrun", "--multirun", "lane=tiny-dense", "sed=1,2"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(micro.ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "did you mean seed?" in done.stderr, done.stderr[-500:]
