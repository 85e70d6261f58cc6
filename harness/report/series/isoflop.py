"""Points of equal FLOPs as a valley over N: where it is lowest, and how that place moves with the budget.

Approach 2 of Hoffmann et al. (2022, arXiv:2203.15556), as nanochat fits it: bits per byte as a parabola of log10 N at each
budget, over all runs; then straight lines of the logs of N* and D* over budgets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.series.answers import NoAnswer
from harness.report.series.points import Point

LEAST_SIZES = 4  # a parabola has 3 parameters


@dataclass(frozen=True)
class Valley:
    """The parabola of a budget: bpb = `bpb` + `curvature` * (log10 N - log10 `n`)^2."""

    family: str
    budget: float  # FLOPs
    convention: str
    n: float  # N*, parameters
    d: float  # D*, tokens
    bpb: float
    curvature: float  # bits per byte per squared decade of N, above 0
    sizes: int
    runs: int

    @property
    def ratio(self) -> float:
        """Tokens per parameter."""
        return self.d / self.n

    def at(self, n: float | np.ndarray) -> np.ndarray:
        """Bits per byte of the parabola."""
        return self.bpb + self.curvature * np.square(np.log10(n / self.n))


@dataclass(frozen=True)
class Growth:
    """N* ~ C^`a` and D* ~ C^`b`. `ratio`: tokens per parameter at the geometric mean of the budgets. `miss`: largest
    distance of a budget's N* from its line, relative; None of two budgets, whose line has no residual."""

    a: float
    b: float
    ratio: float
    budgets: tuple[float, ...]
    ratios: tuple[float, ...]  # by budget
    miss: float | None

    @property
    def drift(self) -> float:
        """Tokens per parameter ~ C^this."""
        return self.b - self.a

    @property
    def text(self) -> str:
        said = f"N* ~ C^{self.a:.2f}, D* ~ C^{self.b:.2f}, {self.ratio:.3g} tokens per parameter"
        if self.miss is None:
            return f"{said} (two budgets: the line goes through both, and nothing is left to say how well)"
        return f"{said} ({len(self.budgets)} budgets, N* within {self.miss:.0%} of the line)"


def valley(points: Sequence[Point], convention: str, least_sizes: int = LEAST_SIZES) -> Valley | NoAnswer:
    """`points`: of one family and budget."""
    assert len({(point.family, point.budget) for point in points}) == 1, "a valley is of one family and budget"
    x_P = np.log10([point.params[convention] for point in points])
    y_P = np.array([point.bpb for point in points])
    sizes = len(set(x_P.tolist()))
    if sizes < least_sizes:
        return NoAnswer(f"{sizes} sizes, and a parabola with a residual takes {least_sizes}")
    middle = x_P.mean()
    square, slope, level = np.polyfit(x_P - middle, y_P, 2)
    if square <= 0:
        return NoAnswer(f"bits per byte over N are not convex (curvature {square:.2g})")
    lowest = middle - slope / (2 * square)
    if not x_P.min() < lowest < x_P.max():
        left = lowest <= x_P.min()
        side, more, edge = ("smallest", "smaller", x_P.min()) if left else ("largest", "larger", x_P.max())
        return NoAnswer(f"the minimum is at or beyond the {side} size ({10**edge:,.0f} parameters): add {more} ones")
    at_Z, size_P = np.unique(x_P, return_inverse=True)
    log_d_Z = np.bincount(size_P, np.log10([point.tokens for point in points])) / np.bincount(size_P)
    log_d = np.interp(lowest, at_Z, log_d_Z)
    first = points[0]
    return Valley(
        first.family, first.budget, convention, n=float(10**lowest), d=float(10**log_d),
        bpb=float(level - slope**2 / (4 * square)), curvature=float(square), sizes=sizes, runs=len(points),
    )  # fmt: skip


def valleys(points: Sequence[Point], convention: str, least_sizes: int = LEAST_SIZES) -> dict[float, Valley | NoAnswer]:
    """By budget from the smallest, of one family."""
    budgets = sorted({point.budget for point in points})
    return {
        budget: valley([point for point in points if point.budget == budget], convention, least_sizes) for budget in budgets
    }


def growth(found: Sequence[Valley | NoAnswer]) -> Growth | NoAnswer:
    """`found`: of one family and convention, a budget each; those without a valley are left out."""
    kept = sorted((it for it in found if isinstance(it, Valley)), key=lambda it: it.budget)
    if len(kept) < 2:
        return NoAnswer(f"{len(kept)} of {len(found)} budgets have a minimum within the sizes, and an exponent takes 2")
    log_c = np.log([it.budget for it in kept])
    log_n, log_d = np.log([it.n for it in kept]), np.log([it.d for it in kept])
    middle = log_c.mean()
    (a, n), (b, d) = np.polyfit(log_c - middle, log_n, 1), np.polyfit(log_c - middle, log_d, 1)
    miss = float(np.abs(np.expm1(log_n - n - a * (log_c - middle))).max()) if len(kept) > 2 else None
    return Growth(
        float(a), float(b), float(np.exp(d - n)), tuple(it.budget for it in kept), tuple(it.ratio for it in kept), miss
    )
