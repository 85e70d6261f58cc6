"""MLflow beside a run: always another process, so that training neither imports it nor waits for it, nor fails by it."""

import os
import subprocess
import sys
from pathlib import Path

from harness.plan.lanes import ROOT

TIMEOUT_S = 120  # of a store that does not answer


def start_follower(run: Path, runs: str) -> None:
    """Logs a run while it goes on; ends with it. Detached, at the lowest priority."""
    subprocess.Popen(
        [*_command(run, runs), "--follow"], env=_environment(), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def track_at_end(run: Path, runs: str) -> str:
    """Logs a finished run. Returns the line to print: where it is, or a warning why it is nowhere."""
    try:
        done = subprocess.run(_command(run, runs), env=_environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"warning: not in MLflow: no answer from its store in {TIMEOUT_S} s; `python -m harness track {run}` tries again"
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        why = next((line for line in lines if line.startswith("error: ")), lines[-1]).removeprefix("error: ")
        return f"warning: not in MLflow: {why}; `python -m harness track {run}` tries again, run.track=off leaves it out"
    return done.stdout.strip().splitlines()[-1]


def _command(run: Path, runs: str) -> list[str]:
    """The store lies in the folder of runs, unless MLFLOW_TRACKING_URI names one."""
    store = [] if os.environ.get("MLFLOW_TRACKING_URI") else ["--store", f"sqlite:///{Path(runs) / 'mlflow.db'}"]
    return [sys.executable, "-m", "harness", "track", str(run), *store]


def _environment() -> dict[str, str]:
    """This checkout's harness, wherever the run was started from."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path}
