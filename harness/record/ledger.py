"""ledger.json: every trial of a search, losers and failures among them, and what each came from.

The *equivalent seconds* of a run are train_s * exp((figure - level) / slope): what it would take to pass the line, were bits
to fall by `slope` per ln(second) as they do between the rungs of its family's first trial. Of a run that passes the line
exactly they are its own.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from harness import values as v
from harness.files import replace_atomically
from harness.plan.space import Space
from harness.reading import file_hash, is_there, read_json
from harness.record.record_folders import LEDGER

LEDGER_VERSION = 1
# complete: all rungs; pruned: a rung was not among the best; failed: no record, and why; stopped: by health; running: by a
# process now, or left by one that was interrupted, which the same command takes up.
STATES = ("running", "complete", "pruned", "failed", "stopped")
ENDED = STATES[1:]
REMEDY = "make search NAME=... writes it anew from the search's own storage"


class LedgerRung(v.Model):
    """One run of a trial. `words`: all that `speedrun` was given beside seed; `figure`: what the track's target is about, at
    the end; `disturbed`: why its seconds are not its own, where they are not; `status`: ran, or taken where it was there."""

    share: v.Share
    words: list[v.Text]
    plan_hash: v.Hex
    folder: v.Text | None
    status: v.one_of("ran", "taken", "stopped", "failed")
    why: v.Text = v.absent()  # of a run that failed or was stopped
    record_sha256: v.Hex = v.absent()
    chain: v.Hex = v.absent()
    slice_bpb: v.Positive = v.absent()
    figure: v.Positive = v.absent()
    train_s: v.Positive = v.absent()
    equivalent_s: v.Positive = v.absent()
    disturbed: v.Text = v.absent()
    # What later runs are estimated from: seconds of training as counted beforehand, of its process beside training, and of
    # compilation; `shape`: what is compiled once.
    counted_s: v.Positive = v.absent()
    beside_s: v.Least0 = v.absent()
    compile_s: v.Least0 = v.absent()
    shape: v.Hex = v.absent()

    @property
    def finished(self) -> bool:
        return self.record_sha256 is not None

    @property
    def place(self) -> str:
        """Where a copy of it lies in a published folder: two runs of one name are told apart by their records."""
        return f"{Path(self.folder or '').name}-{(self.record_sha256 or '')[:8]}".strip("-")

    @model_validator(mode="after")
    def _has_figures(self) -> Self:
        stated = [getattr(self, key) is not None for key in ("record_sha256", "chain", "slice_bpb", "figure", "train_s")]
        if any(stated) != all(stated) or any(stated) != (self.status in ("ran", "taken")):
            raise v.broken(f"status {self.status}, and figures of a record that are {'there' if any(stated) else 'missing'}")
        return self


class LedgerTrial(v.Model):
    """`number`: within its arm, from 0, where the family starts; `words`: those beyond the lane and what all trials share;
    `rung`: of how many rungs there is a record; `equivalent_s`: of the last of them."""

    number: v.Whole
    arm: v.Filled
    family: v.Name
    sampler: v.Name
    words: list[v.Text]
    params: dict[str, Any]
    state: v.one_of(*STATES)
    rungs: list[LedgerRung]
    rung: v.Whole
    equivalent_s: v.Positive = v.absent()
    why: v.Text = v.absent()

    @property
    def finished(self) -> list[LedgerRung]:
        return [rung for rung in self.rungs if rung.finished]

    @property
    def spent_s(self) -> float:
        """Seconds of training of its runs, whoever made them: an arm is charged for what it is told."""
        return sum(rung.train_s for rung in self.finished)


class LedgerCounts(v.Model):
    """`runs`: records that the search made or took, each plan once."""

    trials: v.Whole
    complete: v.Whole
    pruned: v.Whole
    failed: v.Whole
    stopped: v.Whole
    running: v.Whole
    runs: v.Whole


class Ledger(v.Model):
    """`space_sha256`: of what two calls of the search agree on; `hardware_class`: the class of seconds; `slopes`: by family
    bits per ln(second), of families whose first trial has finished; `trials`: arm by arm in turn."""

    schema_version: v.Count
    space: Space
    space_sha256: v.Hex
    hardware_class: v.Filled
    commit: v.Text
    target: v.Name
    metric: v.Name
    level: v.Positive
    slopes: dict[v.Name, v.Positive]
    counts: LedgerCounts
    trials: list[LedgerTrial]

    @property
    def name(self) -> str:
        return self.space.name

    def of_arm(self, family: str, sampler: str) -> list[LedgerTrial]:
        return [trial for trial in self.trials if (trial.family, trial.sampler) == (family, sampler)]

    def complete(self, family: str | None = None) -> list[LedgerTrial]:
        """Trials with all rungs, fewest equivalent seconds first."""
        found = [t for t in self.trials if t.state == "complete" and family in (None, t.family)]
        return sorted((t for t in found if t.equivalent_s is not None), key=lambda t: t.equivalent_s)

    def find(self, arm: str, number: int) -> LedgerTrial | None:
        return next((t for t in self.trials if (t.arm, t.number) == (arm, number)), None)


def counts_of(trials: list[LedgerTrial]) -> LedgerCounts:
    runs = {rung.record_sha256 for trial in trials for rung in trial.finished}
    return LedgerCounts(
        trials=len(trials), runs=len(runs), **{state: sum(trial.state == state for trial in trials) for state in STATES}
    )


def equivalent_s(train_s: float, figure: float, level: float, slope: float) -> float:
    """Seconds, within what a file may hold."""
    found = math.log(train_s) + (figure - level) / slope
    return math.exp(min(max(found, math.log(v.SMALLEST) + 1), math.log(v.LARGEST) - 1))


def slope_of(rungs: list[LedgerRung]) -> float | None:
    """Bits per ln(second), by least squares over the finished rungs of a first trial; None where bits do not fall. Where others
    took processor time from one of its runs, seconds as counted stand for those measured: a slope asks for ratios alone."""
    rungs = [rung for rung in rungs if rung.finished]
    counted = any(rung.disturbed for rung in rungs) and all(rung.counted_s for rung in rungs)
    slope = fall([(rung.counted_s if counted else rung.train_s, rung.figure) for rung in rungs])
    return slope if slope > v.SMALLEST else None


def fall(points: Sequence[tuple[float, float]]) -> float:
    """Bits per ln(second) that (seconds, bits) lose, by least squares; 0 where no two differ in seconds."""
    if len(points) < 2:
        return 0.0
    points = [(math.log(seconds), bits) for seconds, bits in points]
    x, y = (sum(values) / len(points) for values in zip(*points))
    spread = sum((a - x) ** 2 for a, _ in points)
    return -sum((a - x) * (b - y) for a, b in points) / spread if spread else 0.0


def read_ledger(folder: Path) -> Ledger:
    """Raises: UserError where the folder holds none, or one that is damaged."""
    return read_ledger_file(folder / LEDGER)


def read_ledger_file(path: Path) -> Ledger:
    """Such as one that a confirmation kept. Raises: UserError."""
    return read_json(path, Ledger, REMEDY, newest=LEDGER_VERSION)


def has_ledger(folder: Path) -> bool:
    return is_there(folder / LEDGER)


def ledger_hash(folder: Path) -> str:
    """sha256 of the file, as claims state it."""
    return file_hash(folder / LEDGER)


def write_ledger(folder: Path, ledger: Ledger) -> Path:
    """Whole or not at all; returns its path."""
    replace_atomically(folder / LEDGER, [as_written(ledger)])
    return folder / LEDGER


def as_written(ledger: Ledger) -> bytes:
    """Its file."""
    return ledger.model_dump_json(exclude_unset=True, indent=1).encode() + b"\n"
