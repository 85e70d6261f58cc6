"""One law for all points of a family: L(N, D) = E + A / N^a + B / D^b, in bits per byte.

Approach 3 of Hoffmann et al. (2022, arXiv:2203.15556): the Huber loss of the residuals of log L, here by
`scipy.optimize.least_squares`. Everything positive is fitted as its logarithm, and N and D relative to their geometric
means, without which A and a are all but one number.

Letters: P points (runs), K the 5 parameters: log E, log of A / N^a and of B / D^b at the means, log a, log b.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import least_squares, nnls

from harness.errors import UserError
from harness.report.series.points import Point, in_order

PARAMETERS = ("E", "A", "B", "a", "b")
LEAST_PLACES = len(PARAMETERS) + 1  # of the grid; seeds of one place tell the parameters apart no better than one does
LEAST_SIZES = 3  # with two, E and A are one number
DELTA = 1e-3  # of the Huber loss, as Hoffmann et al.
EXPONENTS = (0.01, 4.0)  # bounds of a and b
TERMS = (1e-5, 20.0)  # bounds of E and of the other two terms at the means, relative to the geometric mean of L
GRID = np.geomspace(0.05, 1.5, 8)  # of a and b, where starts are looked for
STARTS = 3  # of them, that are refined
NOTHING = 1e-3  # a term's share of L at the means, below which its parameters are not resolved
INSIDE = 1e-3  # by how much, as a log, starts and exponents have to keep off their bounds
MORE = "run more of the grid: make series NAME=... HOURS=... goes on where it left off"


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^a + B / D^b, N in parameters by `convention`, D in tokens."""

    family: str
    convention: str
    E: float
    A: float
    a: float
    B: float
    b: float

    def bpb(self, n: float | np.ndarray, d: float | np.ndarray) -> np.ndarray:
        return self.E + self.A * np.power(n, -self.a) + self.B * np.power(d, -self.b)

    def tokens(self, n: float | np.ndarray, bpb: float) -> np.ndarray:
        """How many it takes at N to reach `bpb`; infinite where no number does."""
        left = bpb - self.E - self.A * np.power(np.asarray(n, np.float64), -self.a)
        with np.errstate(divide="ignore", over="ignore"):
            return np.power(np.maximum(left, 0.0) / self.B, -1 / self.b)

    @property
    def n_exponent(self) -> float:
        """N* ~ C^this, where FLOPs are a constant times N D."""
        return self.b / (self.a + self.b)

    @property
    def d_exponent(self) -> float:
        return self.a / (self.a + self.b)


@dataclass(frozen=True)
class Fit:
    """`residuals`: of log L, measured less fitted, in the order of `points`. `unresolved`: parameters that the points say
    nothing of: their term is next to nothing, or their exponent stands at the bound of what was looked for."""

    law: Law
    points: tuple[Point, ...]
    residuals: tuple[float, ...]
    unresolved: tuple[str, ...]
    solution: tuple[float, ...]  # (K) what `fit` takes as a start

    @cached_property
    def spread(self) -> float:
        """Standard deviation of a run about the law, relative: of log L, with the parameters taken off its freedom."""
        freedom = len(self.residuals) - len(PARAMETERS)
        return float(np.sqrt(np.sum(np.square(self.residuals)) / freedom))


def fit(points: Sequence[Point], convention: str, start: Sequence[float] | None = None) -> Fit:
    """`points`: of one family. `start`: the solution of nearly the same points, tried beside the best start of the grid.

    Raises:
        UserError: there are too few places or sizes, or no start led anywhere.
    """
    points = tuple(in_order(points))
    _check(points)
    n_P = np.array([point.params[convention] for point in points], np.float64)
    d_P = np.array([point.tokens for point in points], np.float64)
    log_P = np.log([point.bpb for point in points])
    mean_n, mean_d, mean = np.log(n_P).mean(), np.log(d_P).mean(), log_P.mean()
    x_P, y_P = np.log(n_P) - mean_n, np.log(d_P) - mean_d
    terms, exponents = mean + np.log(TERMS), np.log(EXPONENTS)
    bounds = np.array([terms, terms, terms, exponents, exponents])
    starts = _starts(x_P, y_P, log_P, STARTS if start is None else 1)
    if start is not None:
        starts.append(np.array(start))
    best = None
    for begin_K in starts:
        found = least_squares(
            lambda p_K: np.log(_terms(p_K, x_P, y_P).sum(0)) - log_P,
            np.clip(begin_K, bounds[:, 0] + INSIDE, bounds[:, 1] - INSIDE),
            jac=lambda p_K: _jacobian(p_K, x_P, y_P), bounds=bounds.T, loss="huber", f_scale=DELTA, max_nfev=300,
        )  # fmt: skip
        if found.status > 0 and (best is None or found.cost < best.cost):
            best = found
    if best is None:
        raise UserError(f"no law fits the {len(points)} points of {points[0].family}: no start converged", MORE)
    e, n_term, d_term, a, b = np.exp(best.x)
    law = Law(
        points[0].family, convention, float(e), float(n_term * np.exp(a * mean_n)), float(a),
        float(d_term * np.exp(b * mean_d)), float(b),
    )  # fmt: skip
    lost_K = [*(np.exp(best.x[:3] - mean) < NOTHING), *(np.abs(best.x[3:, None] - bounds[3:]) < 2 * INSIDE).any(1)]
    return Fit(
        law, points, tuple((log_P - np.log(law.bpb(n_P, d_P))).tolist()),
        tuple(name for name, lost in zip(PARAMETERS, lost_K) if lost), tuple(best.x.tolist()),
    )  # fmt: skip


def _check(points: Sequence[Point]) -> None:
    places, sizes = {point.place for point in points}, {point.size for point in points}
    assert len({point.family for point in points}) < 2, "a law is of one family"
    name = points[0].family if points else "a family"
    if len(places) < LEAST_PLACES:
        raise UserError(
            f"a law asked of fewer points than parameters: {name} has {len(places)} (sizes x budgets, seeds counted once), "
            f"{len(PARAMETERS)} parameters and a residual take {LEAST_PLACES}",
            MORE,
        )
    if len(sizes) < LEAST_SIZES:
        raise UserError(f"a law of {name} takes {LEAST_SIZES} sizes, found {len(sizes)}: {sorted(sizes)}", MORE)


def _terms(p_K: np.ndarray, x_P: np.ndarray, y_P: np.ndarray) -> np.ndarray:
    """(3, P) E, A / N^a, B / D^b."""
    e, n, d, log_a, log_b = p_K
    return np.exp(np.stack([np.full_like(x_P, e), n - np.exp(log_a) * x_P, d - np.exp(log_b) * y_P]))


def _jacobian(p_K: np.ndarray, x_P: np.ndarray, y_P: np.ndarray) -> np.ndarray:
    """(P, K) of log L."""
    e_P, n_P, d_P = (terms := _terms(p_K, x_P, y_P)) / terms.sum(0)
    a, b = np.exp(p_K[3:])
    return np.stack([e_P, n_P, d_P, -a * x_P * n_P, -b * y_P * d_P], axis=1)


def _starts(x_P: np.ndarray, y_P: np.ndarray, log_P: np.ndarray, count: int) -> list[np.ndarray]:
    """At given exponents the law is linear in its three terms, of which none may be negative: the best of a grid of them."""
    weight_P, least = np.exp(-log_P), np.exp(log_P.mean()) * TERMS[0]
    found = []
    for a in GRID:
        n_P = weight_P * np.exp(-a * x_P)
        for b in GRID:
            terms, miss = nnls(np.stack([weight_P, n_P, weight_P * np.exp(-b * y_P)], axis=1), np.ones_like(x_P))
            found.append((miss, np.array([*np.log(np.maximum(terms, least)), np.log(a), np.log(b)])))
    return [start_K for _, start_K in sorted(found, key=lambda pair: pair[0])[:count]]
