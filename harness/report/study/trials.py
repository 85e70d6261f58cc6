"""The runs of a study and the numbers its table and figure show, from records alone.

Letters: N windows, L MoE layers, E experts. *Relative load*: rows an expert got over the even share; 1 is even, 0 is dead, E/K
is an expert in every top-k set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.plan.stored import read_stored_plan
from harness.reading import is_there
from harness.record.read import check_shapes, read_rows, read_stop
from harness.report.run.router import load_statistics
from harness.report.run_data import load_run

AT_FULL_RATE = (0.25, 0.5)  # of the budget: there the default schedule is neither warming up nor decaying
GROUPS = ("expert", "dense", "router")


@dataclass(frozen=True)
class Trial:
    """A case run with one seed. `rows`: metrics.jsonl by kind. `record` of a finished run, `stop` of one stopped by health."""

    case: str
    seed: int
    folder: Path
    plan: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]]
    record: dict[str, Any] | None
    stop: dict[str, Any] | None
    counts_bytes: bool

    @property
    def hardware_class(self) -> str | None:
        return self.record["hardware_class"] if self.record else None

    @property
    def stopped(self) -> str | None:
        return f"stopped by health ({self.stop['reason']}) at step {self.stop['step']:,}" if self.stop else None

    @property
    def why_unranked(self) -> list[str]:
        return self.record["unranked_reasons"] if self.record else []

    @property
    def curve(self) -> list[tuple[int, float]]:
        """(tokens, bits per byte of the slice) at every validation that was reached."""
        return [(row["tokens"], row["slice_bpb"]) for row in self.rows["validation"]]

    @cached_property
    def load_LE(self) -> np.ndarray:
        """Relative load at the end: over all that was scored; of a stopped run over the last health window, or what the log
        has of it."""
        if self.record:
            counts = self.rows["final"][-1]["counts"]
        else:
            counts = self.stop.get("counts") or (self.rows["window"][-1]["counts"] if self.rows["window"] else [])
        experts = self.plan["model"]["num_experts"]
        counts_LE = np.array(counts if experts else [], np.float64).reshape(-1, max(experts, 1))
        return counts_LE * counts_LE.shape[1] / np.maximum(counts_LE.sum(1, keepdims=True), 1)

    @cached_property
    def health(self) -> dict[str, float] | None:
        """The worst layer of `load_LE`: entropy ratio, relative load of the busiest expert; dead experts of all layers. None of
        a dense model."""
        if not self.plan["model"]["num_experts"]:
            return None
        statistics = load_statistics(self.load_LE)
        return {
            "worst_entropy_ratio": float(statistics["entropy_ratio"].min()),
            "busiest": float(self.load_LE.max()),
            "dead": int(statistics["dead"].sum()),
            "experts": int(self.load_LE.size),
        }

    @cached_property
    def over_time(self) -> dict[str, list[float]]:
        """By window of training: tokens at its end, and the worst layer's entropy ratio, cv in percent and busiest expert."""
        windows = [row for row in self.rows["window"] if row["counts"]]
        if not windows:
            return {"tokens": [], "entropy_ratio": [], "cv_percent": [], "busiest": []}
        counts_NLE = np.array([row["counts"] for row in windows], np.float64)
        statistics = load_statistics(counts_NLE)
        return {
            "tokens": [row["tokens"] for row in windows],
            "entropy_ratio": statistics["entropy_ratio"].min(1).tolist(),
            "cv_percent": statistics["cv_percent"].max(1).tolist(),
            "busiest": (statistics["max_load_percent"].max(1) * counts_NLE.shape[2] / 100).tolist(),
        }

    @cached_property
    def updates(self) -> dict[str, float]:
        """By parameter group, RMS of the update over RMS of the parameters: median of the windows in the second quarter of the
        budget. A group that is absent, or did not move, has none."""
        low, high = (share * self.plan["budget"]["tokens"] for share in AT_FULL_RATE)
        found = {}
        for name in GROUPS:
            rows = [row["groups"][name] for row in self.rows["window"] if low < row["tokens"] <= high and name in row["groups"]]
            ratios = [row["update_rms"] / row["param_rms"] for row in rows if row["param_rms"] > 0 and row["update_rms"] > 0]
            if ratios:
                found[name] = float(np.median(ratios))
        return found

    @property
    def tokens_per_second(self) -> float | None:
        """None where the format is emulated too: what emulation takes says nothing about the format."""
        if self.record is None:
            return None
        precision = self.record["precision"]
        emulated = precision["execution"] == "emulated" and precision["format"] != "bf16"
        return None if emulated else self.record["metrics"]["tokens_per_second"]

    @property
    def is_partial(self) -> bool:
        """Whether the budget was cut and scoring with it."""
        return bool(self.record and self.record["metrics"]["partial"])

    @property
    def bpb(self) -> float | None:
        """Of the slice, at the end."""
        return self.record["metrics"]["slice_bpb"] if self.record else None

    def at(self, key: str) -> float:
        """A dotted key of the plan."""
        node: Any = self.plan
        for part in key.split("."):
            node = node[part]
        return float(node)

    def numbers(self) -> dict[str, Any]:
        """All of the above that is drawn or tabled, as JSON."""
        return {
            "case": self.case, "seed": self.seed, "stopped": self.stopped, "unranked_reasons": self.why_unranked,
            "slice_bpb": self.bpb, "val_bpb": val_bpb(self),
            "tokens_per_second": self.tokens_per_second, "curve": self.curve, "health": self.health,
            "over_time": self.over_time, "update_ratio": self.updates,
            "relative_load": [[round(float(load), 4) for load in sorted(load_E, reverse=True)] for load_E in self.load_LE],
        }  # fmt: skip


def val_bpb(trial: Trial) -> float | None:
    """Of all that was scored of val at the end; None of a stopped run."""
    return trial.record["metrics"]["val_bpb"] if trial.record else None


def val_percent(trial: Trial, first: Sequence[Trial]) -> float | None:
    """Bits per byte of val against the trial of `first` with the same seed, in %; None where either did not finish."""
    base = next((bits for other in first if other.seed == trial.seed and (bits := val_bpb(other)) is not None), None)
    bits = val_bpb(trial)
    return None if bits is None or base is None else 100 * (bits / base - 1)


def read_trial(case: str, seed: int, folder: Path) -> Trial:
    """Errors: UserError when the run has neither finished nor been stopped, or is damaged."""
    if is_there(folder / "record.json"):
        run = load_run(folder)
        rows = {"step": run.steps, "window": run.windows, "validation": run.validations, "final": [run.final]}
        plan, record, stop = run.plan, run.record, None
        if run.final is None:
            raise UserError(f"{folder / 'metrics.jsonl'} has no final scores", "run that case again")
    else:
        plan, record, stop = read_stored_plan(folder / "plan.yaml"), None, read_stop(folder)
        rows = read_rows(folder / "metrics.jsonl", ended=False)
        check_shapes(plan, rows, folder / "metrics.jsonl", stop)
        if stop is None:
            raise UserError(f"{folder} holds a run that has not ended", "start the same study again: it resumes")
    return Trial(case, seed, folder, plan, rows, record, stop, plan["model"]["vocab_size"] == 256)
