"""Keys of Canon layers; the mathematics: `harness/model/memory/canon.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan import parts
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan

PLACES = "ABCD"


@dataclass
class Keys:
    places: str = frozen("ABC", later=True)  # of A, B, C and D
    taps: int = frozen(4, least=2, most=16, later=True)  # the token's own among them


def check(plan: "Plan") -> None:
    m, places = plan.model, plan.memory.canon.places
    if not places or len(set(places)) < len(places) or not set(places) <= set(PLACES):
        raise UserError(f"memory.canon.places={places}", f"name some of {PLACES}, each once: memory.canon.places=ABC")
    if "B" in places:
        parts.need_heads(plan, f"memory.canon.places={places}", _without("B", places))
    if "D" in places and not m.shared_experts and len(m.moe_layers) == m.layers:
        raise UserError(
            f"memory.canon.places={places} where every layer is of routed experts, whose rows have no neighbours",
            f"{_without('D', places)}, or use a shared expert or a dense layer",
        )
    if "D" in places and plan.precision.format not in ("bf16", "fp32"):
        raise UserError(
            f"memory.canon.places={places} with precision.format={plan.precision.format}, whose feed-forward is one kernel",
            f"{_without('D', places)}, or use precision.format=bf16",
        )


def _without(place: str, places: str) -> str:
    left = places.replace(place, "")
    return f"leave {place} out: " + (f"memory.canon.places={left}" if left else "name others, or leave canon out")
