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
from harness.plan.stored import read_stored_plan, settings, stored_moe_layers
from harness.reading import is_there
from harness.record.read import check_shapes, read_record, read_rows, read_stop


@dataclass(frozen=True)
class Span:
    """int64 rows per expert over steps `first` to `last`, both included."""

    first: int
    last: int
    counts_LE: np.ndarray

    @property
    def steps(self) -> int:
        return self.last - self.first + 1

    @cached_property
    def share_LE(self) -> np.ndarray:
        return self.counts_LE / np.maximum(self.counts_LE.sum(1, keepdims=True), 1)

    @cached_property
    def effective_L(self) -> np.ndarray:
        """exp(entropy) / E: the share of the experts that would do with an even load."""
        share = self.share_LE
        return np.exp(-(share * np.log(np.where(share > 0, share, 1))).sum(1)) / share.shape[1]

    @cached_property
    def cv_L(self) -> np.ndarray:
        """100 x population sd / mean of the load."""
        return 100 * self.share_LE.std(1) * self.share_LE.shape[1]


@dataclass(frozen=True)
class Patient:
    """`settings`: {dotted key: value} of the plan, schema defaults where an older plan has no such key. `record` of a finished
    run, `stop` of one stopped by health, neither of one that is going on or was left. `rows`: metrics.jsonl by kind."""

    folder: Path
    settings: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]]
    record: dict[str, Any] | None
    stop: dict[str, Any] | None

    @property
    def experts(self) -> int:
        return self.settings["model.num_experts"]

    @property
    def top_k(self) -> int:
        return self.settings["model.top_k"]

    @property
    def learns_routing(self) -> bool:
        """A hash router's load is what the frequencies of tokens make it: nothing there can be ill."""
        return self.experts > 0 and self.settings["model.router"] != "hash"

    @property
    def last_step(self) -> int:
        """The last step that anything is known of."""
        return max([row["step"] for row in self.rows["step"]] + [self.stop["step"] if self.stop else 0], default=0)

    @property
    def planned_steps(self) -> int:
        return self.settings["budget.tokens"] // self.settings["batch.tokens_per_step"]

    @property
    def state(self) -> str:
        if self.record is not None:
            return f"finished after {self.last_step:,} steps"
        if self.stop is not None:
            return f"stopped by health ({self.stop['reason']}) at step {self.stop['step']:,} of {self.planned_steps:,}"
        return f"unfinished: step {self.last_step:,} of {self.planned_steps:,}"

    @cached_property
    def windows(self) -> list[Span]:
        """What the log holds, and after it what a health stop saw last and the log does not hold."""
        rows = self.rows["window"]
        begun = [0] + [row["step"] for row in rows]
        spans = [Span(a + 1, row["step"], np.array(row["counts"], np.int64)) for a, row in zip(begun, rows)]
        if self.stop is None or not self.stop.get("counts"):
            return spans
        counts, last = np.array(self.stop["counts"], np.int64), self.stop["step"]
        first = last - self.settings["health.window_steps"] + 1
        before, inside = [s for s in spans if s.last < first], [s for s in spans if s.last >= first]
        if inside and inside[0].first == first:
            rest = counts - np.sum([s.counts_LE for s in inside], axis=0)
            return spans + [Span(inside[-1].last + 1, last, rest)]
        return before + [Span(first, last, counts)]

    @cached_property
    def val(self) -> Span | None:
        """What scoring all of val at the end routed; None before that."""
        final = self.rows["final"][-1:]
        return Span(0, 0, np.array(final[0]["counts"], np.int64)) if final else None

    @property
    def health_steps(self) -> int:
        return min(self.settings["health.window_steps"], RANKING.window_steps, max(1, self.planned_steps // 2))

    @cached_property
    def health_windows(self) -> list[Span]:
        """Oldest first; what is left over at the beginning is no health window."""
        found: list[Span] = []
        parts: list[Span] = []
        for window in reversed(self.windows):
            parts.insert(0, window)
            if sum(part.steps for part in parts) >= self.health_steps:
                counts = np.sum([part.counts_LE for part in parts], axis=0)
                found.insert(0, Span(parts[0].first, parts[-1].last, counts))
                parts = []
        return found

    @cached_property
    def layers(self) -> list[int]:
        """The transformer layer of each row of counts."""
        prefix = "model."
        model = {key.removeprefix(prefix): value for key, value in self.settings.items() if key.startswith(prefix)}
        return stored_moe_layers({"model": model})

    @property
    def checkpoints(self) -> list[int]:
        """Steps with a whole checkpoint on disk."""
        files = (self.folder / "checkpoints").glob("step-*.json")
        return sorted(int(f.stem.removeprefix("step-")) for f in files if f.with_suffix(".safetensors").exists())


def read_patient(folder: Path) -> Patient:
    """Errors: UserError naming the file that is missing or corrupt, and what to do."""
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}", "runs lie at runs/LANE/SEED-PLAN and results/LANE/SEED-PLAN")
    if not is_there(folder / "plan.yaml"):
        below = sorted(str(path.parent) for path in folder.rglob("plan.yaml"))
        found = f"name one of the runs in it: {', '.join(below[:6])}{' ...' if below[6:] else ''}" if below else ""
        raise UserError(f"{folder} is no run folder: it has no plan.yaml", found or "make speedrun makes one")
    plan = read_stored_plan(folder / "plan.yaml")
    record = read_record(folder) if is_there(folder / "record.json") else None
    stop = None if record else read_stop(folder)
    if not is_there(folder / "metrics.jsonl"):
        raise UserError(f"{folder / 'metrics.jsonl'} is missing", "a run that has just begun has none yet: look again later")
    rows = read_rows(folder / "metrics.jsonl", ended=record is not None)
    check_shapes(plan, rows, folder / "metrics.jsonl", stop)
    patient = Patient(folder, settings(plan), rows, record, stop)
    if record is not None and (not rows["final"] or patient.last_step < patient.planned_steps):
        raise UserError(
            f"{folder / 'metrics.jsonl'} is not whole: it ends at step {patient.last_step:,} of {patient.planned_steps:,}"
            + ("" if rows["final"] else ", without the scores of the end"),
            "restore it, or run that lane again",
        )
    return patient
