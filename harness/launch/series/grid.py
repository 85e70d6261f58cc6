"""Which part of a series fits into so many hours: whole budgets from the smallest on, all sizes, one seed after the other.

A part is balanced: every family has the same sizes, budgets and seeds, so that whatever is left out is left out for all.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.plan.series import LEAST_SIZES, Series

HOUR_S = 3600


@dataclass(frozen=True)
class Grid:
    """`sizes`, `budgets`: the first so many of the series; `seeds`; `ahead`: whether the largest budget follows, at a size that
    the others choose."""

    series: Series
    sizes: int
    budgets: int
    seeds: tuple[int, ...]
    ahead: bool

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(point, seed) in the order they are run: cut off anywhere, no family, size or budget is ahead of the others."""
        s = self.series
        return [
            (s.point_name(family, size, budget), seed)
            for seed in self.seeds
            for budget in s.budgets[: self.budgets]
            for size in s.sizes[: self.sizes]
            for family in s.families
        ]

    @property
    def text(self) -> str:
        s = self.series
        seeds = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"
        all_of = f"{self.budgets} of {len(s.budgets)} budgets, {self.sizes} of {len(s.sizes)} sizes, {seeds}"
        return all_of + (f", and {s.ahead:.3g} FLOPs ahead" if self.ahead else "")


def grids(series: Series, seeds: Sequence[int], ahead: bool = True) -> list[Grid]:
    """From the least to the whole: each holds the one before. `ahead`: of those with all budgets."""
    return list(_grids(series, tuple(seeds), ahead))


def _grids(series: Series, seeds: tuple[int, ...], ahead: bool) -> Iterator[Grid]:
    sizes, budgets = len(series.sizes), len(series.budgets)
    if sizes > LEAST_SIZES:
        yield Grid(series, LEAST_SIZES, 1, seeds[:1], False)
    for some in range(1, budgets + 1):
        yield Grid(series, sizes, some, seeds[:1], False)
    for some in range(1 if ahead else 2, len(seeds) + 1):
        yield Grid(series, sizes, budgets, seeds[:some], ahead)


def left_s(grid: Grid, done: Collection[tuple[str, int]], seconds: Callable[[str], float], chosen: Sequence[str]) -> float:
    """How long the runs take that are not there yet. `seconds`: by point; `chosen`: the points ahead that stand for those to
    come, one of each family; none where none is to come."""
    runs = [*grid.runs, *((name, seed) for name in chosen for seed in grid.seeds if grid.ahead)]
    return sum(seconds(name) for name, seed in runs if (name, seed) not in done)


def fitting(
    series: Series, seeds: Sequence[int], hours: float, done: Collection[tuple[str, int]], seconds: Callable[[str], float],
    chosen: Sequence[str],
) -> tuple[Grid, list[tuple[Grid, float]]]:  # fmt: skip
    """The largest grid that fits, and every grid with the seconds that it lacks.

    Raises:
        UserError: not even the least fits.
    """
    all_of = [(grid, left_s(grid, done, seconds, chosen)) for grid in grids(series, seeds, ahead=bool(chosen))]
    found = [grid for grid, left in all_of if left <= hours * HOUR_S]
    if not found:
        grid, left = all_of[0]
        raise UserError(
            f"no part of series {series.name} fits into {hours:g} hours: the least ({grid.text}) takes {left / HOUR_S:.2f}",
            f"hours={math.ceil(left / HOUR_S * 105) / 100:.2f} or more; hours=0 shows what there is to run",
        )
    return found[-1], all_of
