"""How long a point will take on this machine: by runs of its size, by those of other sizes, or as counted.

A run's seconds are those of training, at a rate in tokens that a run of any budget of the same model shows, and those beside
it: a process that starts, warm-up, peaks, the score of val and what is drawn.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.launch.series.points import SeriesPoint
from harness.report.run_data import RunData
from harness.train.estimate import run_seconds
from harness.train.machine import Machine, detect

START_S = 12.0  # imports before a run's own clock, and its figures after it: measured on two cores
SETUP_S = 8.0  # of a run's clock beside training and the score: reading the corpus, warm-up, peaks, checkpoints
FORWARD = 3.0  # training over scoring, in FLOPs a token


@dataclass
class Seconds:
    """What is known of rates on one hardware class, whoever else was busy there. `rates`: by family and size, (FLOPs a token,
    tokens a second) of each run; `beside`: by the same, what a run took beside training, process and all."""

    hardware_class: str
    scored: int
    rates: dict[tuple[str, int], list[tuple[int, float]]] = field(default_factory=dict)
    beside: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def learn(self, point: SeriesPoint, run: RunData, wall_s: float | None = None) -> None:
        """From a run of this class. `wall_s`: of its whole process, where it was run by this call and from its beginning."""
        record = run.record
        if record.speed_class != self.hardware_class:
            return
        key, clock = (point.family, point.size), record.clock
        self.rates.setdefault(key, []).append((point.counts.flops_per_token, record.metrics.tokens / clock.train_s))
        whole = clock.wall_s + START_S if wall_s is None else wall_s
        self.beside.setdefault(key, []).append(max(0.0, whole - clock.train_s))

    def of(self, point: SeriesPoint) -> tuple[float, str]:
        """(seconds, what they rest on: a run of this model, other sizes, counted)."""
        rate, source = self._rate(point)
        passes = 2 if point.plan.model.moe_layers else 1  # one more of shuffled routing
        beside = self.beside.get((point.family, point.size)) or [START_S + SETUP_S + passes * self.scored / (FORWARD * rate)]
        return point.tokens / rate + max(beside), source

    def _rate(self, point: SeriesPoint) -> tuple[float, str]:
        """Tokens a second."""
        if own := self.rates.get((point.family, point.size)):
            return min(rate for _, rate in own), "its own runs"
        flops = point.counts.flops_per_token
        counted = _counted_rate(point)
        others = [(math.log(f), rate) for (family, _), some in self.rates.items() if family == point.family for f, rate in some]
        if not others:
            return counted, "counted"
        # FLOP/s grow slowly with size: those of the nearest model known, a line between two.
        return _between(math.log(flops), [(x, math.log(rate) + x) for x, rate in others]) / flops, "other sizes"


def measured(points: Iterable[SeriesPoint], scored: int) -> Seconds:
    """What this machine is, with no run known."""
    here = detect(next(iter(points)).plan)
    return Seconds(here.hardware_class, scored)


def _counted_rate(point: SeriesPoint) -> float:
    here: Machine = detect(point.plan)
    return point.tokens / run_seconds(point.plan, point.counts, here)


def _between(x: float, known: list[tuple[float, float]]) -> float:
    """exp of a line through the two known values around x; of the nearest one outside of them."""
    below, above = [p for p in known if p[0] <= x], [p for p in known if p[0] >= x]
    if not below or not above:
        return math.exp(min(known, key=lambda p: abs(p[0] - x))[1])
    (a, at_a), (b, at_b) = max(below), min(above)
    return math.exp(at_a if a == b else at_a + (at_b - at_a) * (x - a) / (b - a))
