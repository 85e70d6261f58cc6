"""What the gate starts: a training run and a probe of one checkout, each a process of its own.

A process each keeps peak memory and clocks of one away from the other, and lets the code under test be another commit.
"""

from dataclasses import dataclass
from pathlib import Path

from harness.launch import child
from harness.plan.lanes import ROOT
from harness.plan.words import word
from harness.reading import read_json
from harness.record.documents import Probe
from harness.report.run_data import RunData, load_run

TAIL_CHARS = 800


class JobFailed(Exception):
    """The process ended with another status than 0; the text is the end of what it said."""

    def __init__(self, what: str, status: int, log: str):
        super().__init__(f"{what} ended with status {status}: {log[-TAIL_CHARS:].strip()}")
        self.status = status


@dataclass(frozen=True)
class Checkout:
    """The code under test: the program that is started in `root`."""

    root: Path = ROOT

    def train(self, words: list[str], folder: Path, name: str = "train") -> RunData:
        """`speedrun` below `folder`; what it says goes to `<name>.log` there. Raises: JobFailed."""
        place = word("run.folder", str(folder / "runs"))
        ended = self.run(f"training ({name})", ["speedrun", *words, place], folder / f"{name}.log")
        if ended.record is None:  # left early with a checkpoint: run.stop_after_step
            raise JobFailed(f"training ({name}) without a record", 0, ended.said)
        return load_run(ended.record.parent)

    def probe(self, words: list[str], folder: Path, name: str = "probe") -> Probe:
        """The step against the reference workload, and the scorer's check. Raises: JobFailed."""
        out = folder / f"{name}.json"
        self.run(f"probing ({name})", ["probe", *words, f"out={out}"], folder / f"{name}.log")
        return read_json(out, Probe, "mend `probe` at that commit")

    def run(self, what: str, words: list[str], log: Path) -> child.Ended:
        """What is said goes to a file: whoever waits can watch it."""
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        ended = child.run(words, folder=self.root, log=log)
        if ended.status:
            raise JobFailed(what, ended.status, ended.said)
        return ended


def new_folder(wanted: Path | None, runs: str, prefix: str) -> Path:
    """`wanted`, or a new folder below `runs`; absolute, because other checkouts run from other places."""
    import tempfile

    (wanted or Path(runs)).mkdir(parents=True, exist_ok=True)
    return (wanted or Path(tempfile.mkdtemp(prefix=prefix, dir=runs))).resolve()
