"""Intervals over instances: tokens of one instance are not independent, so that the instance is what counts.

Those of one table hold together at 95% (Bonferroni): where one looks in a hundred places, each has an interval at 99.95%.

Letters: B instances; `...` whatever else, each by itself.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from harness.evaluate.ratio import ratio

LEVEL = 0.95


class Interval(NamedTuple):
    """Arrays of one shape, or numbers."""

    value: Any
    low: Any
    high: Any

    def at(self, *index: int) -> "Interval":
        return Interval(*(float(x[index]) for x in self))

    def above(self, other: "Interval | float") -> bool:
        """Whether all of it lies above all of the other. Of numbers."""
        return bool(self.low > (other.high if isinstance(other, Interval) else other))


def quantile(among: int) -> float:
    """How many standard errors an interval reaches to each side, of `among` that hold together."""
    return float(ndtri(1 - (1 - LEVEL) / 2 / max(among, 1)))


def mean(sum_B: np.ndarray, count_B: np.ndarray, among: int = 1) -> Interval:
    """The mean of a figure over tokens, from each instance's sum of it and count of tokens, (B, ...) both: the ratio of the
    totals."""
    value, variance = ratio(sum_B, count_B)
    reach = quantile(among) * np.sqrt(variance)
    return Interval(value, value - reach, value + reach)


def share(right_B: np.ndarray, count_B: np.ndarray, among: int = 1) -> Interval:
    """A share of tokens, likewise, with Wilson's interval (1927) of as many independent tokens as would have this error; where
    all instances agree, of as many as there are instances."""
    p, variance = ratio(right_B, count_B)
    z2, instances = quantile(among) ** 2, (count_B > 0).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.where(variance > 0, np.minimum(p * (1 - p) / variance, count_B.sum(0)), instances)
        n = np.maximum(n, 1.0)
        middle, reach = p + z2 / (2 * n), np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
    return Interval(p, (middle - reach) / (1 + z2 / n), (middle + reach) / (1 + z2 / n))


def by_instance(row_N: np.ndarray, x_N: np.ndarray, instances: int) -> np.ndarray:
    """(B, ...) sums of x over the tokens of each instance."""
    found = np.zeros((instances, *np.shape(x_N)[1:]))
    np.add.at(found, row_N, x_N)
    return found
