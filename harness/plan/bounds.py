"""The bounds of ranking: what a rank is judged by is not the contestant's to set.

`schema.py` states them, as the defaults of the keys marked `bounded`. A plan may be stricter with itself and stay ranked; a
looser one is treated as one that overrides a frozen key. Whether a run kept within them is judged by `record/ranking.py`, and
whether its machine was its own by `record/occupancy.py`.
"""

from dataclasses import asdict
from typing import Any

from harness.errors import UserError
from harness.plan.schema import BOUNDS, Health, Plan

RANKING = Health()  # the health that every ranked run is held to
TAKEN = 0.03  # of its processor time others may take from a run whose seconds are ranked


def looser(stored: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{key: (bound, value)} of what a plan, as nested data, allows itself beyond the bounds. A plan that is older than a key
    is within its bound."""
    found = {}
    for key, bound in BOUNDS.items():
        section, name = key.split(".")
        value = stored.get(section, {}).get(name, bound)
        if value > bound:
            found[key] = (bound, value)
    return found


def looser_words(stored: dict[str, Any]) -> list[str]:
    """As reasons against a rank."""
    return [f"{key}={value} where ranking allows {bound} at most" for key, (bound, value) in looser(stored).items()]


def refuse_looser(plan: Plan) -> None:
    """Raises: UserError for the first key beyond its bound, unless the plan is unranked anyway."""
    if plan.unranked:
        return
    for key, (bound, value) in looser(asdict(plan)).items():
        raise UserError(
            f"{key}={value}: ranking allows {bound} at most, the same for every run",
            f"choose {bound} or less, which stays ranked, or add unranked=true",
        )
