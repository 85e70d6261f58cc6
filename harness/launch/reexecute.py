"""Runs a record's plan again, in a process of its own: this checkout, or a clean one of the record's commit.

What the record says is data. The command line is made from the typed values of plan.yaml (`harness/plan/stored.py`), never from
the words that the record states; the code that runs is this checkout's, or that of a commit of this repository.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.launch import child
from harness.launch.worktree import worktree
from harness.plan.lanes import ROOT
from harness.plan.stored import words_of
from harness.plan.words import word
from harness.reading import is_there
from harness.record.documents import Identity
from harness.record.read import read_identity, read_record, read_rows
from harness.record.rows import Rows
from harness.record.schema import Record
from harness.report.run_data import RunData


@dataclass(frozen=True)
class Execution:
    rows: Rows
    identity: Identity
    record: Record | None  # of a run to the end

    @property
    def hardware_class(self) -> str:
        return self.identity.hardware_class


def command_line(run: RunData, seed: int | None = None) -> list[str]:
    """The words that compose to the record's plan, with another seed if given.

    Raises:
        UserError: it started from another run's checkpoint, or its plan has a key or a value that the schema does not know.
    """
    if run.record.fork:
        raise UserError(
            f"{run.folder} was forked from {run.record.fork}: it does not start at step 0", "verify the run it came from"
        )
    return words_of(run.plan, str(run.folder / "plan.yaml"), seed)


def changed_keys(run: RunData) -> tuple[list[str], list[str]]:
    """What this checkout makes of the record's plan: (hashed keys that differ from its plan.yaml, keys that the schema has
    gained since), each as "key: recorded -> here". Raises: UserError when it does not compose here at all."""
    from harness.plan.compose import compose
    from harness.plan.fingerprint import differences

    try:
        plan = compose(command_line(run)).plan
    except UserError as error:
        raise UserError(
            f"the record's plan means nothing in this checkout: {error.problem}", "commit=record runs it at its own commit"
        ) from error
    found = differences(plan, run.plan)
    gained = [line for line in found if ": (absent) -> " in line]
    return [line for line in found if line not in gained], gained


@contextmanager
def checkout(run: RunData, commit: str) -> Iterator[Path]:
    """The tree to execute: `here`, or at the `record`'s commit."""
    if commit == "here":
        yield ROOT
        return
    with worktree(run.record.provenance.commit) as there:
        yield there.root


def execute(run: RunData, tree: Path, words: list[str], steps: int, home: Path) -> Execution:
    """The first `steps` steps (all of them: with scores) of `words` in `home`, on as many threads as the record had.

    Raises: UserError with the end of its output when it fails.
    """
    last = run.steps[-1]["step"]
    names = (
        ["mlflow"] if tree == ROOT else [key for key in ("mlflow", "track") if key in run.plan["run"]]
    )  # as its commit has it
    command = [
        "speedrun", *words, word("run.folder", str(home)), "run.checkpoint_every_s=3600",
        f"run.log_every_steps={run.windows[0]['step']}", *(f"run.{name}=off" for name in names),
        *([f"run.stop_after_step={steps}"] if steps < last else []),
    ]  # fmt: skip
    said = _watched(command, tree, as_many_threads(run.record))
    folders = [path.parent for path in home.glob("*/*/metrics.jsonl")]
    if len(folders) != 1:
        raise UserError(f"the re-execution left no run behind:\n{said[-1500:]}", "mend that first")
    return Execution(
        read_rows(folders[0] / "metrics.jsonl"),
        read_identity(folders[0]),
        read_record(folders[0]) if is_there(folders[0] / "record.json") else None,
    )


def as_many_threads(record: Record) -> dict[str, str]:
    """The environment in which a run has as many threads as the record's had; ours, where there are not as many cores."""
    threads = record.hardware.threads
    return {"OMP_NUM_THREADS": str(threads)} if threads is not None and threads <= (os.cpu_count() or 1) else {}


def _watched(words: list[str], tree: Path, environment: dict[str, str]) -> str:
    """Runs it, passing on only its live line. Returns all it said."""

    def heard(line: str) -> None:
        if line.startswith(("step ", "warm: ")):
            print(f"          {line}", end="", flush=True)

    ended = child.run(words, folder=tree, environment=environment, heard=heard)
    if ended.status:
        raise UserError(f"the re-execution ended with status {ended.status}:\n{ended.said[-1500:]}", "mend that first")
    return ended.said
