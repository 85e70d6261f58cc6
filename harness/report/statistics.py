"""What n seeds allow one to say: mean, sd, intervals, a t-test against a line, Welch's test between two lanes.

Assumptions, which every sentence made here carries: seeds are independent draws, and the figure is roughly normal over them.
With 3 seeds neither can be checked, so intervals are wide by construction (t with 2 degrees of freedom) and n = 1 is never
called significant. Two-sided intervals are at 95%, one-sided tests at p < 0.01. Student (1908); Welch (1947), degrees of
freedom by Satterthwaite (1946).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

MIN_SEEDS = 3  # below this no claim is made
ALPHA = 0.01  # of one-sided tests
LEVEL = 0.95  # of two-sided intervals
ASSUMES = "assuming independent seeds and a roughly normal spread"


@dataclass(frozen=True)
class Sample:
    """One figure over the seeds of a lane."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample":
        assert values, "a sample has at least one value"
        return cls(tuple(float(v) for v in values))

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (n - 1); None for a single value."""
        return statistics.stdev(self.values) if self.n > 1 else None

    def text(self, form: str) -> str:
        """ "1.6074 ± 0.0035", or the one value; `form` formats each of the two."""
        mean = form.format(self.mean)
        return mean if self.sd is None else f"{mean} ± {form.format(self.sd)}"

    def counted(self, form: str) -> str:
        """ "1.6074 ± 0.0035 (n = 3)", or "1.6074 (n = 1: one run)"."""
        return f"{self.text(form)} (n = {self.n}{': one run' if self.n == 1 else ''})"

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Two-sided t interval of the mean; None for a single value."""
        if self.n < 2:
            return None
        half = quantile(level, self.n - 1) * self.sd / math.sqrt(self.n)
        return self.mean - half, self.mean + half

    def prediction(self, level: float) -> tuple[float, float] | None:
        """Where the next single run falls with probability `level`: mean -+ t * sd * sqrt(1 + 1/n); None for a single value."""
        if self.n < 2:
            return None
        half = quantile(level, self.n - 1) * self.sd * math.sqrt(1 + 1 / self.n)
        return self.mean - half, self.mean + half


def quantile(level: float, freedom: float) -> float:
    """The two-sided quantile of Student's t: P(|t| < q) = level."""
    return float(stdtrit(freedom, 0.5 + level / 2))


@dataclass(frozen=True)
class Test:
    """`p` is one-sided. `significant` needs p < ALPHA and MIN_SEEDS on every side."""

    __test__ = False  # pytest would collect it by its name

    difference: float
    interval: tuple[float, float] | None  # two-sided, of the difference
    p: float | None
    significant: bool
    why_not: str | None  # in words, where it is not significant


def below(sample: Sample, line: float) -> Test:
    """One-sided t-test that the mean lies below `line` (bits per byte, seconds: less is better)."""
    difference = sample.mean - line
    if sample.n < 2:
        return Test(difference, None, None, False, f"n = {sample.n}: one run shows no spread")
    interval = tuple(bound - line for bound in sample.interval())
    if sample.sd == 0:
        p = 0.0 if difference < 0 else 1.0
    else:
        p = float(stdtr(sample.n - 1, difference / (sample.sd / math.sqrt(sample.n))))
    return _judged(difference, interval, p, sample.n)


def welch(a: Sample, b: Sample) -> Test:
    """One-sided Welch test that the mean of `a` lies below that of `b`; the spreads may differ."""
    difference = a.mean - b.mean
    if min(a.n, b.n) < 2:
        return Test(difference, None, None, False, f"n = {a.n} against n = {b.n}: one run shows no spread")
    va, vb = a.sd**2 / a.n, b.sd**2 / b.n
    if va + vb == 0:
        return _judged(difference, (difference, difference), 0.0 if difference < 0 else 1.0, min(a.n, b.n))
    freedom = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    error = math.sqrt(va + vb)
    half = quantile(LEVEL, freedom) * error
    return _judged(difference, (difference - half, difference + half), float(stdtr(freedom, difference / error)), min(a.n, b.n))


def _judged(difference: float, interval: tuple[float, float], p: float, n: int) -> Test:
    if n < MIN_SEEDS:
        return Test(difference, interval, p, False, f"n = {n}: a claim takes {MIN_SEEDS} seeds")
    return Test(difference, interval, p, p < ALPHA, None if p < ALPHA else f"p = {p:.2g}, not below {ALPHA}")
