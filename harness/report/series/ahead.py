"""The point ahead of a family's budgets: the size that the law calls best there, and what is predicted of its run."""

from collections.abc import Mapping, Sequence

import numpy as np

from harness.errors import UserError
from harness.report.series.answers import NoAnswer
from harness.report.series.family import family_of
from harness.report.series.frontier import CONTRACTS, Frontier
from harness.report.series.joint import fit
from harness.report.series.laws import COUNTED
from harness.report.series.points import Point
from harness.report.series.predict import Prediction, predict


def ahead_of(points: Sequence[Point], family: str, budget: float, tokens: Mapping[int, int]) -> Prediction:
    """`points`: of any families; those of `family` below `budget` are fitted. `tokens`: by size, what the budget pays for.

    Raises:
        UserError: the points carry no law.
    """
    below = [point for point in points if point.family == family and point.budget < budget]
    size = best_size(below, budget)
    return predict(below, family, size, budget, tokens[size], COUNTED)


def best_size(points: Sequence[Point], budget: float) -> int:
    """The size that is nearest, in log N, to where the law of these points (one family) is lowest at `budget`.

    Raises:
        UserError: they carry no law.
    """
    law = fit(points, COUNTED).law
    place = Frontier(family_of(points, COUNTED), law, CONTRACTS["flops"]).at_cost(budget)
    if isinstance(place, NoAnswer):
        raise UserError(f"no size is predicted for {budget:.3g} FLOPs: {place.why}", "run more of the grid")
    n_of = {point.size: point.params[COUNTED] for point in points}
    return min(n_of, key=lambda size: abs(np.log(n_of[size] / place.n)))
