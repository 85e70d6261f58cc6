"""Synthetic points of a series: a known law, FLOPs that are 6 N D unless asked otherwise, and noise by seed."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from harness.report.series.joint import Law
from harness.report.series.points import Point

DENSE = Law("dense", "matrices", E=0.9, A=60.0, a=0.34, B=400.0, b=0.42)
SIZES = (150_000, 300_000, 600_000, 1_200_000, 2_400_000)
BUDGETS = (1e13, 3e13, 1e14)


def six(n: float) -> float:
    return 6.0 * n


def cheaper(factor: float, law: Law = DENSE, family: str = "moe") -> Law:
    """The law of a family that needs 1/factor of the compute at every level, FLOPs being 6 N D."""
    return replace(law, family=family, A=law.A * factor ** (-law.a / 2), B=law.B * factor ** (-law.b / 2))


def points(
    law: Law = DENSE, *, sizes: Sequence[int] = SIZES, budgets: Sequence[float] = BUDGETS, seeds: int = 2, noise: float = 0.0,
    random: int = 1, per_token: Callable[[float], float] = six, seconds: Callable[[float], float] | None = None,
    total: float = 1.0,
) -> list[Point]:  # fmt: skip
    """`noise`: relative, of each run. `seconds`: per token at N. `total`: stored parameters per active matrix parameter."""
    draw = np.random.default_rng(random)
    found = []
    for budget in budgets:
        for n in sizes:
            tokens = round(budget / per_token(n))
            for seed in range(1, seeds + 1):
                bpb = float(law.bpb(n, tokens)) * float(np.exp(noise * draw.standard_normal()))
                params = {"matrices": n, "matrices+head": n, "active": n, "total": round(total * n)}
                taken = seconds(n) * tokens if seconds else None
                found.append(Point(law.family, n // 1000, budget, seed, bpb, tokens * per_token(n), tokens, taken, params))
    return found
