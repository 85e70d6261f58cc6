"""What the gate starts: a training run and a probe of one checkout, each a process of its own.

A process each keeps peak memory and clocks of one away from the other, and lets the code under test be another commit.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.plan.lanes import ROOT
from harness.plan.words import word
from harness.reading import read_json
from harness.record.documents import Probe
from harness.report.run_data import RunData, load_run

RECORD_LINE = "record: "
TAIL_CHARS = 800


class JobFailed(Exception):
    """The process ended with another status than 0; the text is the end of what it said."""

    def __init__(self, what: str, status: int, log: str):
        super().__init__(f"{what} ended with status {status}: {log[-TAIL_CHARS:].strip()}")
        self.status = status


@dataclass(frozen=True)
class Checkout:
    """The code under test. `command` starts its program from `root`."""

    root: Path = ROOT
    command: tuple[str, ...] = (sys.executable, "-m", "harness")

    def train(self, words: list[str], folder: Path, name: str = "train") -> RunData:
        """`speedrun` below `folder`; what it says goes to `<name>.log` there. Errors: JobFailed."""
        place = word("run.folder", str(folder / "runs"))
        said = self.run(f"training ({name})", ["speedrun", *words, place], folder / f"{name}.log")
        last = said.rstrip().rpartition("\n")[2]
        if not last.startswith(RECORD_LINE):  # left early with a checkpoint: run.stop_after_step
            raise JobFailed(f"training ({name}) without a record", 0, said)
        return load_run(Path(last.removeprefix(RECORD_LINE).strip()).parent)

    def probe(self, words: list[str], folder: Path, name: str = "probe") -> Probe:
        """The step against the reference workload, and the scorer's check. Errors: JobFailed."""
        out = folder / f"{name}.json"
        self.run(f"probing ({name})", ["probe", *words, f"out={out}"], folder / f"{name}.log")
        return read_json(out, Probe, "mend `probe` at that commit")

    def run(self, what: str, words: list[str], log: Path) -> str:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "w") as file:  # a file, not a pipe: whoever waits can watch it
            done = subprocess.run([*self.command, *words], cwd=self.root, stdout=file, stderr=subprocess.STDOUT)
        said = log.read_text(errors="replace")
        if done.returncode:
            raise JobFailed(what, done.returncode, said)
        return said


def new_folder(wanted: str | None, runs: str, prefix: str) -> Path:
    """`wanted`, or a new folder below `runs`; absolute, because other checkouts run from other places."""
    import tempfile

    if wanted is None:
        Path(runs).mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=runs)).resolve()
    Path(wanted).mkdir(parents=True, exist_ok=True)
    return Path(wanted).resolve()
