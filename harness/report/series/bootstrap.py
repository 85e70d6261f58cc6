"""How far a law moves when its points are drawn again: grid points with replacement, then seeds within each.

A place of the grid (family, budget, size) is drawn, not a run: seeds of one place share what that place has of its own (a
learning rate that suits it, say). Places are drawn within their budget, so that every resample has all budgets. Draws are
keyed by the family alone: the same records give the same intervals, in whatever order they are read and whatever other
families there are.

Letters: R resamples, Z sizes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from harness.errors import UserError
from harness.keyed import generator
from harness.report.series.answers import Interval, interval
from harness.report.series.family import Family, family_of, seconds_by_size
from harness.report.series.joint import Fit, Law, fit
from harness.report.series.points import Point, in_order

RESAMPLES = 300
FIGURES = ("E", "a", "b", "n_exponent", "d_exponent")


@dataclass(frozen=True)
class Resample:
    """`law`: None where it could not be fitted. `family`: with the seconds of what was drawn."""

    law: Law | None
    family: Family


@dataclass(frozen=True)
class Bootstrap:
    """The law of a family, and those of its resamples."""

    family: Family
    fit: Fit
    drawn: tuple[Resample, ...]  # (R)

    @property
    def failed(self) -> int:
        return sum(it.law is None for it in self.drawn)

    @cached_property
    def figures(self) -> dict[str, Interval]:
        """E and the exponents, those of N* and D* among them, by name."""
        return {name: self.interval(lambda law, name=name: getattr(law, name)) for name in FIGURES}

    def interval(self, figure: Callable[[Law], float | None]) -> Interval:
        """A figure of a law, None where it has no answer."""
        return interval(figure(self.fit.law), [None if it.law is None else figure(it.law) for it in self.drawn])


def bootstrap(points: Sequence[Point], convention: str, count: int = RESAMPLES) -> Bootstrap:
    """`points`: all of one family.

    Raises:
        UserError: all points together do not carry a law.
    """
    whole, family = fit(points, convention), family_of(points, convention)
    drawn = []
    for runs in resampled(points, count):
        try:
            law = fit(runs, convention, start=whole.solution).law
        except UserError:  # too few places were drawn, or no start converged: counted
            law = None
        drawn.append(Resample(law, replace(family, seconds_Z=seconds_by_size(family, runs))))
    return Bootstrap(family, whole, tuple(drawn))


def resampled(points: Sequence[Point], count: int, strat=True, seeds=True) -> list[list[Point]]:
    """`points`: of one family."""
    by_budget: dict[float, dict[int, list[Point]]] = {}
    for point in in_order(points):
        by_budget.setdefault(point.budget if strat else 0, {}).setdefault((point.budget, point.size), []).append(point)
    random = generator(0, "series", points[0].family, len(points))
    return [
        [
            run
            for places in by_budget.values()
            for place in draw(random, list(places.values()))
            for run in (draw(random, place) if seeds else place)
        ]
        for _ in range(count)
    ]


def draw(random: np.random.Generator, items: Sequence) -> list:
    """As many, with replacement."""
    return [items[int(share * len(items))] for share in uniform(random, len(items))]


def uniform(random: np.random.Generator, count: int) -> np.ndarray:
    """Shares from 0 to 1, of the raw stream, which no release of numpy changes."""
    return (random.bit_generator.random_raw(count) >> np.uint64(11)) * 2.0**-53
