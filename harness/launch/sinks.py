"""What comes of a run besides its record: its table and figures, and MLflow. Each is made by another process, so that training
neither imports it nor waits for it, and whatever becomes of that process is one line of warning, never the end of a run."""

import os
import subprocess
import sys
from pathlib import Path

from harness.plan.lanes import ROOT
from harness.terminal import tell, warn

SHOW_TIMEOUT_S = 600
TRACK_TIMEOUT_S = 120  # of a store that does not answer
RECORD = "record: "  # begins the last line of a run


def finish(path: Path, track: str, runs: str) -> None:
    """Table, figures, MLflow, and the last line. `path`: of the record, which is safe whatever happens here."""
    show_at_end(path.parent)
    if track != "off":
        track_at_end(path.parent, runs)
    if lost := tell(f"{RECORD}{path}"):
        warn(f"warning: standard output cannot be written ({lost})\n{RECORD}{path}")


def show_at_end(run: Path) -> None:
    """Prints the end table and draws the figures."""
    said = _sink("table and figures are not whole", ["show", str(run)], f"`make show RUN={run}` makes them", SHOW_TIMEOUT_S)
    if said:
        tell("\n".join(line for line in said.splitlines() if not line.startswith(RECORD)))


def track_at_end(run: Path, runs: str) -> None:
    """Logs a finished run, and prints where it is."""
    later = f"`python -m harness track {run}` tries again, run.track=off leaves it out"
    said = _sink("not in MLflow", _track(run, runs), later, TRACK_TIMEOUT_S).splitlines()
    if said:
        tell(said[-1])


def start_follower(run: Path, runs: str) -> None:
    """Logs a run while it goes on; ends with it. Detached, at the lowest priority."""
    try:
        subprocess.Popen(
            [*_command(_track(run, runs)), "--follow"], env=_environment(), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        warn(f"warning: no follower: {error}; the run is logged to MLflow at its end")


def _sink(problem: str, words: list[str], later: str, timeout_s: float) -> str:
    """Runs a verb and passes its warnings on. Returns what it said; where it did not end well a warning says why."""
    why, said, warned = None, "", ""
    try:
        done = subprocess.run(
            _command(words), env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout_s,
        )  # fmt: skip
        said, warned = done.stdout, done.stderr
        why = _why(done) if done.returncode else None
    except subprocess.TimeoutExpired:
        why = f"no answer in {timeout_s:.0f} s"
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


def _why(done: subprocess.CompletedProcess[str]) -> str:
    """In one line: the error that was explained, else the last line of a traceback, else the status."""
    lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return next((line for line in lines if line.startswith("error: ")), lines[-1]).removeprefix("error: ")


def _track(run: Path, runs: str) -> list[str]:
    """The store lies in the folder of runs, unless MLFLOW_TRACKING_URI names one."""
    store = [] if os.environ.get("MLFLOW_TRACKING_URI") else ["--store", f"sqlite:///{Path(runs) / 'mlflow.db'}"]
    return ["track", str(run), *store]


def _command(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "harness", *words]


def _environment() -> dict[str, str]:
    """This checkout's harness, wherever the run was started from."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path}
