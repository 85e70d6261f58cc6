"""Keys of multi-head latent attention; the mathematics: `harness/model/attention/mla.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan

QK_CLIP = True


@dataclass
class Keys:
    rank: int = frozen(64, least=1, later=True)  # of the latent that keys and values are made of
    rotary: int = frozen(16, least=2, later=True)  # of a head's width, with positions, from one key of all heads


def check(plan: "Plan") -> None:
    m, rotary = plan.model, plan.attention.mla.rotary
    if rotary % 2 or rotary >= (head := m.width // m.heads):
        fit = f": attention.mla.rotary={head // 4 * 2}" if head > 2 else ", of fewer heads"
        raise UserError(
            f"attention.mla.rotary={rotary} of a head width of {head}",
            f"choose an even number below the head width, for what is left has no positions{fit}",
        )
