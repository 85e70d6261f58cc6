"""A run predicted by the law of the points below its budget, before it is run, and judged after.

The interval is of a single run: the law of each resample, and on it one of the residuals that runs have about the law. Beside
it stands what anybody would draw by eye: a power law of FLOPs through the best of the last two budgets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import UserError
from harness.keyed import generator
from harness.report.series.answers import Interval, interval
from harness.report.series.bootstrap import RESAMPLES, Bootstrap, bootstrap, draw
from harness.report.series.joint import PARAMETERS
from harness.report.series.points import Point


@dataclass(frozen=True)
class Prediction:
    """Bits per byte of a run that was not fitted. `naive`: of the best run at that budget; None below two budgets."""

    family: str
    size: int
    budget: float  # FLOPs
    tokens: int
    convention: str
    n: int  # parameters
    bpb: Interval
    naive: float | None
    fitted: int  # runs


@dataclass(frozen=True)
class Judgement:
    """`measured`: mean bits per byte of `runs` seeds. `beyond`: how far it lies outside the interval, 0 inside of it; None of
    a prediction without one."""

    prediction: Prediction
    measured: float
    runs: int
    beyond: float | None

    @property
    def inside(self) -> bool | None:
        return None if self.beyond is None else self.beyond == 0.0

    @property
    def error(self) -> float:
        """Measured less predicted, relative."""
        return self.measured / self.prediction.bpb.value - 1


def predict(
    points: Sequence[Point], family: str, size: int, budget: float, tokens: int, convention: str,
    n: int | None = None, count: int = RESAMPLES,
) -> Prediction:  # fmt: skip
    """`points`: of any families and budgets; those of `family` below `budget` are fitted. `n`: parameters by `convention`, of a
    size that none of them has.

    Raises:
        UserError: there are too few points below the budget, or no parameters of that size.
    """
    below = [point for point in points if point.family == family and point.budget < budget]
    known = {point.params[convention] for point in below if point.size == size}
    if n is None and len(known) != 1:
        raise UserError(
            f"no run of {family} below {budget:.3g} FLOPs has size {size}, so its parameters are not known",
            f"sizes there: {sorted({point.size for point in below})}",
        )
    n = known.pop() if n is None else n
    boot = bootstrap(below, convention, count)
    return Prediction(family, size, budget, tokens, convention, n, _interval(boot, n, tokens), naive(below, budget), len(below))


def naive(points: Sequence[Point], budget: float) -> float | None:
    """The power law of FLOPs through the best (of seeds the mean) at the two largest budgets, at `budget`."""
    best = {c: min(_means([point for point in points if point.budget == c])) for c in {point.budget for point in points}}
    if len(best) < 2:
        return None
    one, two = sorted(best)[-2:]
    exponent = np.log(best[two] / best[one]) / np.log(two / one)
    return float(best[two] * (budget / two) ** exponent)


def judge(prediction: Prediction, points: Sequence[Point]) -> Judgement:
    """`points`: the runs that were predicted, and maybe others.

    Raises:
        UserError: none of them was predicted.
    """
    place = (prediction.family, prediction.budget, prediction.size)
    runs = [point.bpb for point in points if point.place == place]
    if not runs:
        raise UserError(
            f"{prediction.family} at size {prediction.size} and {prediction.budget:.3g} FLOPs was predicted and is not run",
            "start the same series again: it goes on where it left off",
        )
    measured, bounds = float(np.mean(runs)), prediction.bpb
    beyond = max(0.0, bounds.low - measured, measured - bounds.high) if bounds.known else None
    return Judgement(prediction, measured, len(runs), beyond)


def sentence(it: Prediction | Judgement) -> str:
    """Before the run, or after it."""
    if isinstance(it, Prediction):
        beside = (
            f"; a line through the best of the last two budgets says {it.naive:.4f} of the best size there" if it.naive else ""
        )
        begin = f"Predicted of {_what(it)} ({it.tokens:,} tokens), from {it.fitted} runs of smaller budgets"
        return f"{begin}: {it.bpb.text('{:.4f}')} bits per byte{beside}."
    bounds = it.prediction.bpb
    measured = f"{_what(it.prediction)}: {it.measured:.4f} ({it.runs} seed{'s' if it.runs > 1 else ''})"
    predicted = f"{it.error:+.2%} of the predicted {bounds.value:.4f}"
    if not bounds.known:
        verdict = "with no interval to be inside of"
    elif it.inside:
        verdict = f"inside its interval, which is that of one run ({bounds.low:.4f} to {bounds.high:.4f})"
    else:
        verdict = f"outside its interval ({bounds.low:.4f} to {bounds.high:.4f}) by {it.beyond:.4f}"
    if it.prediction.naive is None:
        return f"{measured}, {predicted}, {verdict}."
    off = it.measured / it.prediction.naive - 1
    return f"{measured}, {predicted}, {verdict}; {off:+.2%} of the naive line, which means the best size there."


def _what(it: Prediction) -> str:
    return f"{it.family} at size {it.size} and {it.budget:.3g} FLOPs"


def _interval(boot: Bootstrap, n: int, tokens: int) -> Interval:
    residuals = np.array(boot.fit.residuals)
    residuals *= np.sqrt(len(residuals) / (len(residuals) - len(PARAMETERS)))  # the fit has taken its share of the spread
    random = generator(0, "prediction", boot.family.name, n, tokens)
    drawn = []
    for it in boot.drawn:
        miss = draw(random, residuals)[0]
        drawn.append(None if it.law is None else float(it.law.bpb(n, tokens) * np.exp(miss)))
    return interval(float(boot.fit.law.bpb(n, tokens)), drawn)


def _means(points: Sequence[Point]) -> list[float]:
    """Over seeds, by size."""
    sizes = {point.size for point in points}
    return [float(np.mean([point.bpb for point in points if point.size == size])) for size in sizes]
