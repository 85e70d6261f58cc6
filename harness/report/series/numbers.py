"""series.json: every figure of a series that is drawn or tabled, for people and other programs."""

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from harness.report.series.answers import NoAnswer
from harness.report.series.bootstrap import Bootstrap
from harness.report.series.laws import Laws
from harness.report.series.points import Point
from harness.report.series.valley_spread import ValleySpread


def numbers_of(points: Sequence[Point], laws: Laws, said: Sequence[str]) -> dict[str, Any]:
    """JSON data. `said`: sentences of the prediction."""
    valleys = {name: {kind: _valleys(it) for kind, it in kinds.items()} for name, kinds in laws.valleys.items()}
    return {
        "points": [asdict(point) for point in points],
        "valleys": valleys,
        "joint": {"counted": laws.convention, **{name: _joint(it) for name, it in laws.joint.items()}},
        "worths": [plain(it) for it in laws.worths],
        "prediction": list(said),
    }


def plain(value: Any) -> Any:
    """Dataclasses as objects, arrays as lists, keys as text; what has no answer as {"none": why}."""
    if isinstance(value, NoAnswer):
        return {"none": value.why}
    if is_dataclass(value):
        return {key: plain(it) for key, it in vars(value).items() if not key.startswith("_")}
    if isinstance(value, dict):
        return {key if isinstance(key, str) else f"{key:g}": plain(it) for key, it in value.items()}
    if isinstance(value, list | tuple):
        return [plain(it) for it in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _valleys(it: ValleySpread) -> dict[str, Any]:
    by_budget = {
        f"{budget:g}": plain(found) | {
            name: plain(getattr(it, name)[budget]) for name in ("n", "d", "ratios", "bpb") if budget in it.n
        }
        for budget, found in it.valleys.items()
    }  # fmt: skip
    return {"budgets": by_budget, "growth": plain(it.growth), "a": plain(it.a), "b": plain(it.b), "ratio": plain(it.ratio)}


def _joint(it: Bootstrap | NoAnswer) -> dict[str, Any]:
    if isinstance(it, NoAnswer):
        return plain(it)
    places = [
        {"size": p.size, "budget": p.budget, "seed": p.seed, "residual": r} for p, r in zip(it.fit.points, it.fit.residuals)
    ]
    return {"law": plain(it.fit.law), "figures": plain(it.figures), "spread": it.fit.spread, "residuals": places}
