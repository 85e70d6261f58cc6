"""A run folder as the doctor sees it: finished, stopped by health, or still going.

Letters: L MoE layers, E experts, K top-k. A *window* is what the log holds (`run.log_every_steps` steps); a *health window* is
the number of steps that health judges (`health.window_steps`, at most those that ranking judges), pieced together from whole
windows backwards from the end, so that the last one is the present. A run planned shorter than two of them has two halves
instead.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.plan.bounds import RANKING
from harness.plan.stored import settings
from harness.reading import is_there
from harness.record import checkpoint_files
from harness.record.load import Load
from harness.record.run import Run, read_run


@dataclass(frozen=True, eq=False)
class Span(Load):
    """Rows per expert over steps `first` to `last`, both included: counts (L, E)."""

    first: int
    last: int

    @property
    def steps(self) -> int:
        return self.last - self.first + 1

    @cached_property
    def effective(self) -> np.ndarray:
        """(L,): exp(entropy) / E, the share of the experts that would do with an even load."""
        return np.exp(self.entropy) / self.experts


def joined(parts: list[Span]) -> Span:
    """Spans that follow each other, as one."""
    return Span(np.sum([part.counts for part in parts], axis=0), parts[0].first, parts[-1].last)


@dataclass(frozen=True)
class Patient(Run):
    """A run that is finished, stopped by health, going on, or was left."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """{dotted key: value} of the plan, schema defaults where an older plan has no such key."""
        return settings(self.plan)

    @property
    def learns_routing(self) -> bool:
        """A hash router's load is what the frequencies of tokens make it: nothing there can be ill."""
        return self.experts > 0 and self.settings["model.router"] != "hash"

    @property
    def last_step(self) -> int:
        """The last step that anything is known of."""
        return max(self.steps[-1]["step"] if self.steps else 0, self.stop.step if self.stop else 0)

    @property
    def state(self) -> str:
        if self.record is not None:
            return f"finished after {self.last_step:,} steps"
        if self.stop is not None:
            return f"stopped by health ({self.stop.reason}) at step {self.stop.step:,} of {self.planned_steps:,}"
        return f"unfinished: step {self.last_step:,} of {self.planned_steps:,}"

    @cached_property
    def spans(self) -> list[Span]:
        """What the log holds, and after it what a health stop saw last and the log does not hold."""
        begun = [0] + [row["step"] for row in self.windows]
        spans = [Span(np.array(row["counts"], np.int64), a + 1, row["step"]) for a, row in zip(begun, self.windows)]
        if self.stop is None or not self.stop.counts:
            return spans
        counts, last = np.array(self.stop.counts, np.int64), self.stop.step
        first = last - self.settings["health.window_steps"] + 1
        before, inside = [s for s in spans if s.last < first], [s for s in spans if s.last >= first]
        if inside and inside[0].first == first:
            return spans + [Span(counts - joined(inside).counts, inside[-1].last + 1, last)]
        return before + [Span(counts, first, last)]

    @cached_property
    def val(self) -> Load | None:
        """What scoring all of val at the end routed; None before that."""
        return Load.of(self.final["counts"]) if self.final else None

    @property
    def health_steps(self) -> int:
        return min(self.settings["health.window_steps"], RANKING.window_steps, max(1, self.planned_steps // 2))

    @cached_property
    def health_windows(self) -> list[Span]:
        """Oldest first; what is left over at the beginning is no health window."""
        found: list[Span] = []
        parts: list[Span] = []
        for span in reversed(self.spans):
            parts.insert(0, span)
            if sum(part.steps for part in parts) >= self.health_steps:
                found.insert(0, joined(parts))
                parts = []
        return found

    @property
    def checkpoints(self) -> list[int]:
        """Steps with a whole checkpoint on disk."""
        return checkpoint_files.complete(self.folder / "checkpoints")


def read_patient(folder: Path) -> Patient:
    """Reads a run folder, whatever became of the run.

    Raises:
        UserError: a file is missing or corrupt; it names that, and what to do.
    """
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}", "runs lie at runs/LANE/SEED-PLAN and results/LANE/SEED-PLAN")
    if not is_there(folder / "plan.yaml"):
        below = sorted(str(path.parent) for path in folder.rglob("plan.yaml"))
        found = f"name one of the runs in it: {', '.join(below[:6])}{' ...' if below[6:] else ''}" if below else ""
        raise UserError(f"{folder} is no run folder: it has no plan.yaml", found or "make speedrun makes one")
    log = folder / "metrics.jsonl"
    if not is_there(log):
        raise UserError(f"{log} is missing", "a run that has just begun has none yet: look again later")
    patient = Patient(**vars(read_run(folder)))
    if patient.record is not None and (not patient.final or patient.last_step < patient.planned_steps):
        raise UserError(
            f"{log} is not whole: it ends at step {patient.last_step:,} of {patient.planned_steps:,}"
            + ("" if patient.final else ", without the scores of the end"),
            "restore it, or run that lane again",
        )
    return patient
