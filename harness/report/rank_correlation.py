"""Spearman's rank correlation (1904) over runs of several cases, with a percentile bootstrap (Efron 1979) of its interval.

Runs of one case have more in common than its dial: over all of them, cases are drawn before their runs, so that what differs
between cases is known no better than they are many. Within cases, each is drawn again by itself, and figures are differences
from the mean of their case, so that what a case does to both falls out. Draws are keyed: the same runs give the same interval.

Letters: N runs, C cases, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from harness.keyed import generator

RESAMPLES = 10_000
LEAST = 3  # runs
DIGITS = 12  # differences from a mean below this are rounding

Points = Sequence[Sequence[tuple[float, float]]]  # by case, (x, y) of its runs


@dataclass(frozen=True)
class Correlation:
    """`runs`: N; `fewest`: of a case."""

    value: float
    low: float
    high: float
    runs: int
    cases: int
    fewest: int


def over_cases(points: Points, level: float) -> Correlation | None:
    """Over all runs; None of fewer than LEAST, or where x or y is the same in all."""
    return _correlation(tuple(tuple(case) for case in points if case), level, within=False)


def within_cases(points: Points, level: float) -> Correlation | None:
    """The same of differences from the means of cases, of those with two runs or more."""
    return _correlation(tuple(tuple(case) for case in points if len(case) > 1), level, within=True)


@cache
def _correlation(points: tuple[tuple[tuple[float, float], ...], ...], level: float, within: bool) -> Correlation | None:
    size_C = np.array([len(case) for case in points], np.int64)
    if size_C.sum() < LEAST:
        return None
    x_N, y_N = np.array([pair for case in points for pair in case], np.float64).T
    drawn_RN = _resamples(size_C, cases_too=not within)
    figures = []
    for rows in (np.arange(len(x_N))[None], drawn_RN):
        x_RN, y_RN = (_less_means(z_N[rows], size_C) if within else z_N[rows] for z_N in (x_N, y_N))
        figures.append(spearman(x_RN, y_RN))
    whole, resampled_R = float(figures[0][0]), np.nan_to_num(figures[1])
    if np.isnan(whole):
        return None
    low, high = np.quantile(resampled_R, [(1 - level) / 2, (1 + level) / 2])
    return Correlation(whole, float(low), float(high), len(x_N), len(size_C), int(size_C.min()))


def spearman(x_RN: np.ndarray, y_RN: np.ndarray) -> np.ndarray:
    """(R,) of each row, ties at their mean rank; NaN where one of the two is the same throughout."""
    a_RN, b_RN = (rank_RN - rank_RN.mean(-1, keepdims=True) for rank_RN in (_ranks(x_RN), _ranks(y_RN)))
    with np.errstate(invalid="ignore"):
        return (a_RN * b_RN).sum(-1) / np.sqrt((a_RN**2).sum(-1) * (b_RN**2).sum(-1))


def _ranks(x_RN: np.ndarray) -> np.ndarray:
    one_RN1, other_R1N = x_RN[..., :, None], x_RN[..., None, :]
    return (other_R1N < one_RN1).sum(-1) + (other_R1N == one_RN1).sum(-1) / 2


def _less_means(x_RN: np.ndarray, size_C: np.ndarray) -> np.ndarray:
    mean_RC = np.add.reduceat(x_RN, np.cumsum(size_C) - size_C, axis=-1) / size_C
    return (x_RN - np.repeat(mean_RC, size_C, axis=-1)).round(DIGITS)


def _resamples(size_C: np.ndarray, cases_too: bool) -> np.ndarray:
    """(R, N) runs. In the place of each case stand as many draws from it, or with `cases_too` from a case that is drawn."""
    cases, runs = len(size_C), int(size_C.sum())
    words = generator(0, "rank correlation", cases, runs).bit_generator.random_raw(RESAMPLES * (cases + runs))
    share_RX = ((words >> np.uint64(11)) * 2.0**-53).reshape(RESAMPLES, cases + runs)
    drawn_RC = (share_RX[:, :cases] * cases).astype(np.int64)
    case_RC = drawn_RC if cases_too else np.broadcast_to(np.arange(cases), drawn_RC.shape)
    case_RN, first_C = np.repeat(case_RC, size_C, axis=1), np.cumsum(size_C) - size_C
    return first_C[case_RN] + (share_RX[:, cases:] * size_C[case_RN]).astype(np.int64)
