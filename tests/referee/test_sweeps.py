"""Hydra's own launcher and sweeper plugins, really installed: every job leaves its record, and the sweep finds it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import micro
import pytest
from test_train_units import UNITS

WORDS = [*micro.DENSE, "budget.tokens=2048", "validation.steps=[4]"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2"]
SUBMITIT = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "seed=1,2"]
OPTUNA = [
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_trials=3",
    "hydra.sweeper.direction=minimize",
    "optim.muon.lr=interval(0.01,0.1)",
]


def sweep_of(folder: Path, *words: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "speedrun", "--multirun", *WORDS, f"run.folder={folder / 'runs'}", *words]
    found = os.pathsep.join(filter(None, [str(micro.ROOT), os.environ.get("PYTHONPATH")]))
    variables = os.environ | {"PYTHONPATH": found, "PATH": path}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=variables, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.mark.parametrize("plugin, jobs", [(JOBLIB, 2), (SUBMITIT, 2), (OPTUNA, 3)], ids=["joblib", "submitit_local", "optuna"])
def test_a_sweep_through_a_plugin_summarizes_the_records_that_its_jobs_left(plugin, jobs, tmp_path):
    runs = tmp_path / "runs"
    done = sweep_of(tmp_path, *plugin)
    records = {path: json.loads(path.read_text())["metrics"]["val_bpb"] for path in runs.glob("tiny-dense/*/record.json")}
    assert len(records) == jobs
    (sweep,) = runs.glob("sweep-*")
    outcomes = [json.loads(path.read_text()) for path in sorted(sweep.glob("job-*.json"))]
    assert {outcome["record"] for outcome in outcomes} == {str(path.resolve()) for path in records}
    shown = re.search(r"val_bpb: mean ([\d.]+), sd [\d.]+ over n = (\d)", done.stdout).groups()
    assert shown == (f"{sum(records.values()) / jobs:.4f}", str(jobs))
    if plugin is OPTUNA:
        best = (sweep / "optimization_results.yaml").read_text()
        assert f"best_value: {min(records.values())}" in best, best


TASKS = (*UNITS, "seed=1", "hydra.launcher.tasks_per_node=2", "hydra.launcher.timeout_min=5")
# Stand-ins for Slurm's commands: a job is run here, at once, and every task of it is a process.
SLURM = {
    "sbatch": """#!/bin/sh
cp "$1" {home}/job.sh
SLURM_JOB_ID=7 sh {home}/job.sh > {home}/said 2>&1 &
echo Submitted batch job 7
""",
    "srun": """#!{python}
import os, subprocess, sys
command = sys.argv[sys.argv.index({python!r}) :]
job = {{"SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost"}}
ranks = [os.environ | job | {{"SLURM_PROCID": rank, "SLURM_LOCALID": rank}} for rank in "01"]
tasks = [subprocess.Popen(command, env=rank) for rank in ranks]
sys.exit(max(task.wait() for task in tasks))
""",
    "sacct": """#!/bin/sh
printf 'JobID|State\\n7|RUNNING\\n'
""",
}


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_the_tasks_of_a_submitit_job_are_the_ranks_of_one_run_and_the_sweep_finds_its_record(launcher, tmp_path):
    home = tmp_path / "slurm"
    home.mkdir()
    for name, text in SLURM.items():
        (home / name).write_text(text.format(home=home, python=sys.executable))
        (home / name).chmod(0o755)
    own = ("hydra.launcher.gpus_per_node=2", "hydra.launcher.partition=fast") if launcher == "slurm" else ()
    path = os.pathsep.join([str(home), os.environ["PATH"]])
    done = sweep_of(tmp_path, f"hydra/launcher=submitit_{launcher}", *TASKS, *own, path=path)
    record = micro.record(micro.the_folder(tmp_path / "runs"))
    assert record.hardware.world_size == 2 and f"{record.metrics.val_bpb:.4f}" in done.stdout
    assert "ranks" not in record.hardware_class and ", 2 ranks, " in record.speed_class
    (sweep,) = (tmp_path / "runs").glob("sweep-*")
    assert [path.name for path in sweep.glob("job-*.json")] == ["job-00000.json"] and (sweep / ".submitit").is_dir()
    if launcher == "slurm":
        script = (home / "job.sh").read_text()
        for line in ("--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=2", "--partition=fast"):
            assert f"#SBATCH {line}\n" in script
        assert script.count("\nsrun ") == 1 and "submitit.core._submit" in script
