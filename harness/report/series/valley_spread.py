"""How far isoFLOP valleys and their exponents move with the noise of their points.

A parabola through four sizes has one of them to spare: with places drawn again most resamples would have three sizes or two,
and go through them whatever the noise. So here all sizes stay, and residuals are drawn: those of the places of all budgets
together about their parabolas, as large as their degrees of freedom make the noise, which is itself drawn (chi-square) as it
is known from few of them (Davison and Hinkley 1997, 6.2.3; the scale as in Student's t).

Those residuals say little of the smallest and the largest size: a parabola through four sizes goes all but through its ends,
whatever the noise there. So seeds are drawn within each place too, and residuals stand for what is beyond the noise of seeds.

Letters: P places (size x budget), R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtri

from harness.keyed import generator
from harness.report.series.answers import Interval, NoAnswer, interval
from harness.report.series.bootstrap import RESAMPLES, draw, uniform
from harness.report.series.isoflop import Growth, Valley, growth, valleys
from harness.report.series.points import Point, in_order

PARABOLA = 3  # parameters


@dataclass(frozen=True)
class ValleySpread:
    """`valleys`, and of those that there are intervals of N*, D*, their ratio and bits per byte, all by budget; `a`, `b`,
    `drift` and `ratio` of the growth, None where there is none."""

    convention: str
    valleys: dict[float, Valley | NoAnswer]
    growth: Growth | NoAnswer
    n: dict[float, Interval]
    d: dict[float, Interval]
    ratios: dict[float, Interval]
    bpb: dict[float, Interval]
    a: Interval | None
    b: Interval | None
    drift: Interval | None
    ratio: Interval | None


def valley_spread(points: Sequence[Point], convention: str, count: int = RESAMPLES) -> ValleySpread:
    """`points`: of one family."""
    points = in_order(points)
    whole = valleys(points, convention)
    there = {budget: it for budget, it in whole.items() if isinstance(it, Valley)}
    drawn = [valleys(runs, convention) for runs in _resampled(points, there, convention, count)] if there else []

    def by_budget(figure: str) -> dict[float, Interval]:
        return {
            budget: interval(getattr(it, figure), [getattr(one[budget], figure, None) for one in drawn])
            for budget, it in there.items()
        }

    grown = growth(list(whole.values()))
    lines = [growth([one[budget] for budget in there]) for one in drawn]

    def of_growth(figure: str) -> Interval | None:
        """A resample that lost a budget has another line, and no answer."""
        if isinstance(grown, NoAnswer):
            return None
        found = [line if isinstance(line, Growth) and line.budgets == grown.budgets else None for line in lines]
        return interval(getattr(grown, figure), [getattr(line, figure, None) for line in found])

    return ValleySpread(
        convention, whole, grown, by_budget("n"), by_budget("d"), by_budget("ratio"), by_budget("bpb"), of_growth("a"),
        of_growth("b"), of_growth("drift"), of_growth("ratio"),
    )  # fmt: skip


def _resampled(points: Sequence[Point], there: dict[float, Valley], convention: str, count: int) -> list[list[Point]]:
    """Runs on the parabolas of their budgets, each place with a residual that was drawn."""
    places: dict[tuple, list[Point]] = {}
    for point in points:
        if point.budget in there:
            places.setdefault(point.place, []).append(point)
    fitted_P = [float(there[runs[0].budget].at(runs[0].params[convention])) for runs in places.values()]
    bits_P = [np.array([run.bpb for run in runs]) for runs in places.values()]
    residual_P = np.array([bits.mean() for bits in bits_P]) - fitted_P
    freedom = len(places) - PARABOLA * len(there)
    residual_P *= np.sqrt(len(places) / freedom)
    variance, of_seeds = np.mean(np.square(residual_P)), np.mean([_of_mean(bits) for bits in bits_P])
    random = generator(0, "valleys", points[0].family, convention, len(points))
    drawn = []
    for share in uniform(random, count):
        beyond = max(0.0, variance * freedom / chdtri(freedom, share) - of_seeds)
        scale = np.sqrt(beyond / variance) if variance > 0 else 0.0
        moved = fitted_P + scale * np.array(draw(random, residual_P)) + [_luck(random, bits) for bits in bits_P]
        drawn.append([replace(run, bpb=float(bpb)) for runs, bpb in zip(places.values(), moved) for run in runs])
    return drawn


def _of_mean(bits: np.ndarray) -> float:
    """Variance of the mean of a place's seeds; 0 of one seed, whose noise only the residuals have."""
    return float(bits.var(ddof=1)) / len(bits) if len(bits) > 1 else 0.0


def _luck(random: np.random.Generator, bits: np.ndarray) -> float:
    """By how much the mean of as many seeds, drawn again, is off, as widely as their degrees of freedom make it."""
    if len(bits) < 2:
        return 0.0
    return float(np.mean(draw(random, bits - bits.mean()))) * np.sqrt(len(bits) / (len(bits) - 1))
