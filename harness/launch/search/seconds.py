"""How long a run of a search will take, from what those before it took: as counted, times the ratio that was measured."""

import hashlib
import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict

from harness.launch.series.seconds import FORWARD, SETUP_S, START_S
from harness.model.build import count_plan
from harness.plan.schema import Plan
from harness.record.ledger import LedgerRung
from harness.train.estimate import run_seconds
from harness.train.machine import Machine

COMPILE_S = 25.0  # of a shape's first run, until one was measured; 20 to 30 s on two AVX512 cores


def shape_of(plan: Plan) -> str:
    """What is compiled once for all plans that have it in common: the model, and how many tokens it is given at once."""
    told = [asdict(plan.model), plan.batch.sizes, plan.parallel.micro_batch_tokens, plan.precision.format, asdict(plan.kernels)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


class Seconds:
    """What is known on one machine. `ratios`: measured over counted seconds of training, by family; `beside`: what a run took
    beside training and compilation; `compiling`: by shape, the most that a run of it compiled."""

    def __init__(self, here: Machine, scored: int):
        self.here, self.scored = here, scored
        self.ratios: dict[str, list[float]] = {}
        self.beside: list[float] = []
        self.compiling: dict[str, float] = {}

    def learn(self, family: str, rungs: Iterable[LedgerRung]) -> None:
        """From the runs of a trial."""
        for rung in rungs:
            if rung.finished and rung.counted_s:
                self.ratios.setdefault(family, []).append(rung.train_s / rung.counted_s)
            if rung.finished and rung.status == "ran" and rung.shape:
                self.beside.append(rung.beside_s)
                self.compiling[rung.shape] = max(rung.compile_s, self.compiling.get(rung.shape, 0.0))

    def counted(self, plan: Plan) -> float:
        """Seconds of training, as counted from the plan alone."""
        return run_seconds(plan, count_plan(plan), self.here)

    def training(self, family: str, plan: Plan, counted_s: float | None = None) -> float:
        """Seconds of training."""
        known = self.ratios.get(family) or [ratio for some in self.ratios.values() for ratio in some]
        return (counted_s or self.counted(plan)) * (statistics.median(known) if known else 1.0)

    def compile_s(self, plan: Plan) -> float:
        """Seconds that a run of it compiles; 0 where its shape was seen, or nothing is compiled."""
        if plan.kernels.compile == "off" or shape_of(plan) in self.compiling:
            return 0.0
        return statistics.median(self.compiling.values()) if self.compiling else COMPILE_S

    def of(self, family: str, plan: Plan, counted_s: float | None = None) -> float:
        """Seconds of its whole process."""
        train_s = self.training(family, plan, counted_s)
        passes = 2 if plan.model.moe_layers else 1  # one more of shuffled routing
        scoring = passes * self.scored * train_s / (FORWARD * plan.by_step.total)
        beside = statistics.median(self.beside) if self.beside else START_S + SETUP_S + scoring
        return train_s + beside + self.compile_s(plan)
