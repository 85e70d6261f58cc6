"""The runs of a study and the numbers its table and figure show, from records alone.

Letters: N windows, L MoE layers, E experts. *Relative load*: rows an expert got over the even share; 1 is even, 0 is dead, E/K
is an expert in every top-k set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.plan.stored import section
from harness.reading import is_there
from harness.record.damaged import Damage, alone, at_once
from harness.record.load import Load
from harness.record.results import (
    LoadOverTime,
    TrainOverTime,
    TrialDamage,
    TrialHealth,
    TrialNumbers,
    TrialRace,
    TrialRouting,
)
from harness.record.run import Run, read_run
from harness.report.run_data import load_run
from harness.report.study import damaged, inspection, specialisation

AT_FULL_RATE = (0.25, 0.5)  # of the budget: there the default schedule is neither warming up nor decaying
GROUPS = ("expert", "dense", "router")
SPANS = 32  # of the budget, over which losses of training are averaged


@dataclass(frozen=True)
class Trial(Run):
    """A case run with one seed, finished or stopped by health."""

    case: str
    seed: int

    @property
    def hardware_class(self) -> str | None:
        """With the number of ranks."""
        return self.record.speed_class if self.record else None

    @property
    def stopped(self) -> str | None:
        return f"stopped by health ({self.stop.reason}) at step {self.stop.step:,}" if self.stop else None

    @property
    def why_unranked(self) -> list[str]:
        return self.record.unranked_reasons if self.record else []

    @property
    def curve(self) -> list[tuple[int, float]]:
        """(tokens, bits of the slice, in the track's measure) at every validation that was reached."""
        return [(row["tokens"], row["slice_bpb"]) for row in self.validations]

    @cached_property
    def load(self) -> Load:
        """At the end: over all that was scored; of a stopped run over the last health window, or what the log has of it."""
        if self.record:
            counts = self.final["counts"]
        else:
            counts = self.stop.counts or (self.windows[-1]["counts"] if self.windows else [])
        return Load.of(counts if self.experts else [], self.experts)

    @cached_property
    def health(self) -> TrialHealth | None:
        """None of a dense model."""
        if not self.experts:
            return None
        return TrialHealth(
            worst_entropy_ratio=float(self.load.entropy_ratio.min()),
            busiest=float(self.load.busiest.max()),
            dead=int(self.load.dead.sum()),
            experts=self.load.counts.size,
        )

    @cached_property
    def over_time(self) -> LoadOverTime:
        windows = [row for row in self.windows if row["counts"]]
        if not windows:
            return LoadOverTime(tokens=[], entropy_ratio=[], cv_percent=[], busiest=[])
        load = Load.of([row["counts"] for row in windows])
        return LoadOverTime(
            tokens=[row["tokens"] for row in windows],
            entropy_ratio=load.entropy_ratio.min(1).tolist(),
            cv_percent=load.cv_percent.max(1).tolist(),
            busiest=load.busiest.max(1).tolist(),
        )

    @cached_property
    def train(self) -> TrainOverTime:
        """A step's loss is that of the weights before it, on text that passes before this one have read."""
        budget, bits, ends = self.plan["budget"]["tokens"], [[] for _ in range(SPANS)], [0] * SPANS
        for row in self.steps:
            span = min((row["tokens"] - 1) * SPANS // budget, SPANS - 1)
            bits[span].append(row["loss"] / math.log(2))
            ends[span] = row["tokens"]
        turned = self.record.data.turned if self.record else None
        return TrainOverTime(
            passes=section(self.plan, "data").epochs,
            read_bytes=turned.read_bytes if turned else None,
            tokens=[end for end in ends if end],
            bits=[float(np.mean(found)) for found in bits if found],
            last_bits=float(np.mean(last)) if self.record and (last := bits[-2] + bits[-1]) else None,
        )

    @cached_property
    def updates(self) -> dict[str, float]:
        """By parameter group, RMS of the update over RMS of the parameters: median of the windows in the second quarter of the
        budget. A group that is absent, or did not move, has none."""
        low, high = (share * self.plan["budget"]["tokens"] for share in AT_FULL_RATE)
        found = {}
        for name in GROUPS:
            rows = [row["groups"][name] for row in self.windows if low < row["tokens"] <= high and name in row["groups"]]
            ratios = [row["update_rms"] / row["param_rms"] for row in rows if row["param_rms"] > 0 and row["update_rms"] > 0]
            if ratios:
                found[name] = float(np.median(ratios))
        return found

    @cached_property
    def routing(self) -> TrialRouting | None:
        """What is said of experts and tasks; None of a run that was not inspected, or whose inspection does not hold."""
        found = inspection.look_up(self)[0] if self.record else None
        return specialisation.numbers(found, self.record) if found else None

    @cached_property
    def damage(self) -> Damage | None:
        """What interfering with its routers cost; None of a dense run, or where nobody has, or that does not hold."""
        return damaged.look_up(self)[0] if self.record and self.experts else None

    @property
    def timed(self) -> bool:
        """Not where the format is emulated too: what emulation takes says nothing about the format; or the run disturbed."""
        return bool(self.record and self.record.precision.timed and not self.record.disturbed)

    @property
    def tokens_per_second(self) -> float | None:
        return self.record.metrics.tokens_per_second if self.timed else None

    @property
    def train_s(self) -> float | None:
        """Training seconds of the whole budget."""
        return self.record.clock.train_s if self.timed else None

    @property
    def is_partial(self) -> bool:
        """Whether a part of val alone was scored."""
        return bool(self.record and self.record.metrics.partial)

    @property
    def bpb(self) -> float | None:
        """Bits of the slice, at the end."""
        return self.record.metrics.slice_bpb if self.record else None

    @property
    def raced(self) -> float | None:
        """What the track's target is about, at the end; None of a stopped run, and of a track without a target."""
        target = self.record.metrics.target if self.record else None
        return getattr(self.record.metrics, target.metric) if target else None

    def at(self, key: str) -> float:
        """A dotted key of the plan."""
        node: Any = self.plan
        for part in key.split("."):
            node = node[part]
        return float(node)

    def numbers(self, doctor: Sequence[str], look: str = "", of_train: bool = False, of_race: bool = False) -> TrialNumbers:
        """All of the above that is drawn or tabled. `doctor`: what it finds; `look`, `of_train` and `of_race`: what the study
        asks for."""
        more: dict[str, Any] = {"routing": self.routing} if look == "inspect" and self.routing else {}
        if look == "damage" and self.damage:
            more["damage"] = TrialDamage(
                interferences=at_once(self.damage.interferences), transplants=alone(self.damage.transplants)
            )
        more |= {"train": self.train} if of_train else {}
        more |= {"race": TrialRace(train_s=self.train_s, figure=self.raced)} if of_race else {}
        more |= {"val_parts": found} if (found := val_parts(self)) else {}
        return TrialNumbers(
            case=self.case, seed=self.seed, stopped=self.stopped, unranked_reasons=self.why_unranked, slice_bpb=self.bpb,
            val_bpb=val_bpb(self), tokens_per_second=self.tokens_per_second, curve=self.curve, health=self.health,
            over_time=self.over_time, update_ratio=self.updates,
            relative_load=[[round(load, 4) for load in sorted(load_E, reverse=True)] for load_E in self.load.relative.tolist()],
            doctor=list(doctor), **more,
        )  # fmt: skip


def val_bpb(trial: Trial) -> float | None:
    """Bits, in the track's measure, of all that was scored of val at the end; None of a stopped run."""
    return trial.record.metrics.val_bpb if trial.record else None


def val_parts(trial: Trial) -> dict[str, float]:
    """Bits per byte of parts of val, and of texts scored beside it; empty where there are none."""
    return trial.record.metrics.val_parts or {} if trial.record else {}


def val_percent(trial: Trial, first: Sequence[Trial]) -> float | None:
    """Bits of val against the trial of `first` with the same seed, in %; None where either did not finish."""
    base = next((bits for other in first if other.seed == trial.seed and (bits := val_bpb(other)) is not None), None)
    bits = val_bpb(trial)
    return None if bits is None or base is None else 100 * (bits / base - 1)


def read_trial(case: str, seed: int, folder: Path) -> Trial:
    """A run folder as a trial.

    Raises:
        UserError: the run has neither finished nor been stopped, or is damaged.
    """
    finished = is_there(folder / "record.json")
    run = load_run(folder) if finished else read_run(folder)
    if finished and run.final is None:
        raise UserError(f"{folder / 'metrics.jsonl'} has no final scores", "run that case again")
    if not finished and run.stop is None:
        raise UserError(f"{folder} holds a run that has not ended", "start the same study again: it resumes")
    return Trial(**vars(run), case=case, seed=seed)
