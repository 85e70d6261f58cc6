"""Hydra's own launcher and sweeper plugins, really installed: every job leaves its record, and the sweep finds it."""

import json
import re

import pytest
from sweeps import DENSE, sweep_of

JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2"]
SUBMITIT = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "seed=1,2"]
OPTUNA = [
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_trials=3",
    "hydra.sweeper.direction=minimize",
    "optim.muon.lr=interval(0.01,0.1)",
]


@pytest.mark.parametrize("plugin, jobs", [(JOBLIB, 2), (SUBMITIT, 2), (OPTUNA, 3)], ids=["joblib", "submitit_local", "optuna"])
def test_a_sweep_through_a_plugin_summarizes_the_records_that_its_jobs_left(plugin, jobs, tmp_path):
    runs = tmp_path / "runs"
    done = sweep_of(tmp_path, *DENSE, *plugin)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
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


def test_a_job_that_fails_is_named_with_the_file_that_says_why_and_the_others_run(tmp_path):
    done = sweep_of(tmp_path, *DENSE, *SUBMITIT[:2], "seed=-1,1")
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(list((tmp_path / "runs").glob("tiny-dense/*/record.json"))) == 1
    (failed,) = re.findall(r"failed +exit 2 .*seed=-1.*\n +it said: (.*)\n", done.stdout)
    with open(failed) as file:
        assert "error: " in file.read()
