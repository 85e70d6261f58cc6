"""Keys of full attention; the mathematics: `harness/model/attention/full.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan

GIVES_HEADS = True

QK_CLIP = True


@dataclass
class Keys:
    kv_heads: int = frozen(0, least=0, later=True)  # heads of keys and values, each for as many queries; 0: one for each
    gain: float = frozen(1.0, least=1e-3, most=1e3, later=True)  # on the scores, which QK-norm bounds by sqrt(head width)
    rotated: int = frozen(0, least=0, later=True)  # of a head's width, with positions; 0: all of it
    key_offset: bool = frozen(False, later=True)  # half of a key's channels without positions are those of the token before
    head_gate: bool = frozen(False, later=True)  # each head's output times 2 sigmoid(x W), which starts as 1


def check(plan: "Plan") -> None:
    m, k = plan.model, plan.attention.full
    if k.kv_heads and m.heads % k.kv_heads:
        raise UserError(
            f"attention.full.kv_heads={k.kv_heads} does not divide model.heads={m.heads}",
            f"choose a divisor of {m.heads}, or attention.full.kv_heads=0 for one of each",
        )
    if k.rotated % 2 or k.rotated > m.width // m.heads:
        raise UserError(
            f"attention.full.rotated={k.rotated} of a head width of {m.width // m.heads}",
            f"choose an even number up to {m.width // m.heads}, or attention.full.rotated=0 for all of it",
        )
    if k.key_offset and k.rotated in (0, m.width // m.heads):
        raise UserError(
            f"attention.full.key_offset=true with attention.full.rotated={k.rotated}: every channel of a head has positions",
            f"choose an even attention.full.rotated below the head width of {m.width // m.heads}",
        )
