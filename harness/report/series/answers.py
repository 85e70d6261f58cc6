"""What a law says when it is asked: a number with its interval, or why there is none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
MOST_FAILED = 0.25  # share of resamples without an answer, above which those that have one say nothing of the spread


@dataclass(frozen=True)
class NoAnswer:
    """`why`: in words that go on a sentence, "the smallest value is at the edge of the sizes"."""

    why: str


@dataclass(frozen=True)
class Interval:
    """A figure of all points, and the percentile interval (Efron 1979) of it over resamples."""

    value: float
    low: float | None  # None where too many resamples failed
    high: float | None
    resamples: int
    failed: int  # of them, those without an answer; they are left out of the interval

    @property
    def known(self) -> bool:
        return self.low is not None

    def holds(self, value: float) -> bool:
        """Whether the interval has `value` in it; without an interval nothing is ruled out."""
        return not self.known or self.low <= value <= self.high

    def text(self, form: str | Callable[[float], str] = "{:.3g}") -> str:
        """ "0.54 (0.49 to 0.58)", with what failed where anything did."""
        short = self.short(form)
        if not self.known or not self.failed:
            return short
        return f"{short.removesuffix(')')}; {self.failed} of {self.resamples} resamples failed)"

    def short(self, form: str | Callable[[float], str] = "{:.3g}") -> str:
        """Without what failed, which `left_out` says of several at once."""
        shown = form.format if isinstance(form, str) else form
        if not self.known:
            return f"{shown(self.value)} (no interval: {self.failed} of {self.resamples} resamples have no answer)"
        return f"{shown(self.value)} ({shown(self.low)} to {shown(self.high)})"


def left_out(of: Mapping[str, Sequence[Interval]]) -> str:
    """One sentence for the intervals of a table; empty where they rest on all of their resamples. `of`: by what they are of."""
    known = {name: [it for it in some if it.known and it.failed] for name, some in of.items()}
    told = [f"{max(it.failed for it in some)} of {name}" for name, some in known.items() if some]
    if not told:
        return ""
    resamples = max(it.resamples for some in known.values() for it in some)
    return f"Intervals leave out resamples without an answer, of {resamples:,} at most {', '.join(told)}."


def interval(value: float, drawn: Sequence[float | None]) -> Interval:
    """`drawn`: the same figure of each resample, None of one that has no answer."""
    answers = np.array([figure for figure in drawn if figure is not None], np.float64)
    failed = len(drawn) - len(answers)
    if not len(answers) or failed > MOST_FAILED * len(drawn):
        return Interval(value, None, None, len(drawn), failed)
    low, high = np.quantile(answers, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), len(drawn), failed)
