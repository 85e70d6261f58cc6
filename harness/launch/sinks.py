"""What comes of a run besides its record: its table and figures, and MLflow. Each is made by another process, so that training
neither imports it nor waits for it, and whatever becomes of that process is one line of warning, never the end of a run."""

import os
from pathlib import Path

from harness.launch import child
from harness.launch.child import RECORD
from harness.terminal import tell, warn

SHOW_TIMEOUT_S = 600
MLFLOW_TIMEOUT_S = 120  # of a store that does not answer


def finish(path: Path, mlflow: str, runs: str) -> None:
    """Table, figures, MLflow, and the last line. `path`: of the record, which is safe whatever happens here."""
    show_at_end(path.parent)
    if mlflow != "off":
        log_at_end(path.parent, runs)
    if lost := tell(f"{RECORD}{path}"):
        warn(f"warning: standard output cannot be written ({lost})\n{RECORD}{path}")


def show_at_end(run: Path) -> None:
    """Prints the end table and draws the figures."""
    said = _sink("table and figures are not whole", ["show", str(run)], f"`make show RUN={run}` makes them", SHOW_TIMEOUT_S)
    if said:
        tell("\n".join(line for line in said.splitlines() if not line.startswith(RECORD)))


def log_at_end(run: Path, runs: str) -> None:
    """Logs a finished run, and prints where it is."""
    later = f"`python -m harness mlflow {run}` tries again, run.mlflow=off leaves it out"
    said = _sink("not in MLflow", _mlflow(run, runs), later, MLFLOW_TIMEOUT_S).splitlines()
    if said:
        tell(said[-1])


def start_follower(run: Path, runs: str) -> None:
    """Logs a run while it goes on; ends with it. Detached, at the lowest priority."""
    try:
        child.detach([*_mlflow(run, runs), "--follow"])
    except OSError as error:
        warn(f"warning: no follower: {error}; the run is logged to MLflow at its end")


def _sink(problem: str, words: list[str], later: str, timeout_s: float) -> str:
    """Runs a verb and passes its warnings on. Returns what it said; where it did not end well a warning says why."""
    why, said, warned = None, "", ""
    try:
        ended = child.run(words, errors="apart", limit_s=timeout_s)
        said, warned = ended.said, ended.warned
        why = f"no answer in {timeout_s:.0f} s" if ended.late else _why(ended) if ended.status else None
    except OSError as error:
        why = str(error)
    except KeyboardInterrupt:
        why = "interrupted"
    for line in warned.splitlines():
        if line.startswith("warning: "):
            warn(line)
    if why:
        warn(f"warning: {problem}: {why}; {later}")
    return said


def _why(ended: child.Ended) -> str:
    """In one line: the error that was explained, else the last line of a traceback, else the status."""
    lines = ended.warned.strip().splitlines() or [f"status {ended.status}"]
    return next((line for line in lines if line.startswith("error: ")), lines[-1]).removeprefix("error: ")


def _mlflow(run: Path, runs: str) -> list[str]:
    """The store lies in the folder of runs, unless MLFLOW_TRACKING_URI names one."""
    store = [] if os.environ.get("MLFLOW_TRACKING_URI") else ["--store", f"sqlite:///{Path(runs) / 'mlflow.db'}"]
    return ["mlflow", str(run), *store]
