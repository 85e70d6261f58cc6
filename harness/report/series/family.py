"""What goes with the size within one family: FLOPs, seconds and parameters of other conventions, by N.

Between sizes everything is a straight line of the logs. FLOPs per token are counted, so they are not 6 N: attention and the
parameters that a convention leaves out are in them.

Letters: Z sizes, from the smallest N.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import UserError
from harness.report.series.points import CONVENTIONS, Point


@dataclass(frozen=True, eq=False)
class Family:
    """`sizes`: of the dial. `seconds_Z`: None where a size was never timed. `budgets`: FLOPs, from the smallest."""

    name: str
    convention: str
    sizes: tuple[int, ...]
    n_Z: np.ndarray
    flops_Z: np.ndarray  # per token, training
    seconds_Z: np.ndarray | None  # per token, training
    params_Z: dict[str, np.ndarray]
    budgets: tuple[float, ...]

    def flops(self, n: float | np.ndarray) -> np.ndarray:
        """FLOPs per token of training a model of n parameters."""
        return self._between(n, self.flops_Z)

    def seconds(self, n: float | np.ndarray) -> np.ndarray:
        """Seconds per token of training a model of n parameters."""
        return self._between(n, self.seconds_Z)

    def params(self, n: float | np.ndarray, convention: str) -> np.ndarray:
        return self._between(n, self.params_Z[convention])

    def _between(self, n: float | np.ndarray, y_Z: np.ndarray) -> np.ndarray:
        return np.exp(np.interp(np.log(n), np.log(self.n_Z), np.log(y_Z)))


def family_of(points: Sequence[Point], convention: str) -> Family:
    """`points`: all of one family.

    Raises:
        UserError: two sizes have as many parameters, or a size has not the same number in all its runs.
    """
    assert points and convention in CONVENTIONS, (len(points), convention)
    name, by_size = points[0].family, {}
    for point in points:
        assert point.family == name, (point.family, name)
        by_size.setdefault(point.size, []).append(point)
    for size, runs in by_size.items():
        if len({tuple(sorted(run.params.items())) for run in runs}) > 1:
            raise UserError(
                f"runs of {name} at size {size} have not the same parameters: {sorted({r.params[convention] for r in runs})}",
                "a family may differ in nothing but its size: see `families` of the series",
            )
    sizes = sorted(by_size, key=lambda size: by_size[size][0].params[convention])
    n_Z = np.array([by_size[size][0].params[convention] for size in sizes], np.float64)
    if (np.diff(n_Z) == 0).any():
        raise UserError(
            f"sizes {sizes} of {name} have {[int(n) for n in n_Z]} parameters ({convention}), two of them as many",
            "choose sizes that differ in it",
        )
    seconds = _seconds(points)
    return Family(
        name, convention, tuple(sizes), n_Z,
        flops_Z=np.array([np.median([run.flops_per_token for run in by_size[size]]) for size in sizes]),
        seconds_Z=np.array([seconds[size] for size in sizes]) if seconds.keys() == set(sizes) else None,
        params_Z={kind: np.array([by_size[size][0].params[kind] for size in sizes], np.float64) for kind in CONVENTIONS},
        budgets=tuple(sorted({point.budget for point in points})),
    )  # fmt: skip


def seconds_by_size(family: Family, points: Sequence[Point]) -> np.ndarray | None:
    """(Z) per token, of some of its points; a size that none of them has keeps what all of them say."""
    if family.seconds_Z is None:
        return None
    seconds = _seconds(points)
    return np.array([seconds.get(size, whole) for size, whole in zip(family.sizes, family.seconds_Z)])


def _seconds(points: Sequence[Point]) -> dict[int, float]:
    """By size the median per token, of sizes that were timed."""
    timed: dict[int, list[float]] = {}
    for point in points:
        if point.seconds is not None:
            timed.setdefault(point.size, []).append(point.seconds / point.tokens)
    return {size: float(np.median(seconds)) for size, seconds in timed.items()}
