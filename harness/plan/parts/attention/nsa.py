"""Keys of native sparse attention; the mathematics: `harness/model/attention/nsa.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan

GIVES_HEADS = True


@dataclass
class Keys:
    block: int = frozen(
        16, least=2, later=True
    )  # tokens that are compressed to one key and value, and that are chosen together
    chosen: int = frozen(4, least=2, later=True)  # blocks that a token looks into: the first, its own, the best of the others
    window: int = frozen(32, least=1, later=True)  # last tokens that it sees anyway


def check(plan: "Plan") -> None:
    k, length = plan.attention.nsa, plan.model.sequence_length
    if length % k.block:
        fit = max((block for block in range(2, k.block) if length % block == 0), default=length)
        raise UserError(
            f"attention.nsa.block={k.block} does not divide model.sequence_length={length}",
            f"choose a divisor of it: attention.nsa.block={fit}",
        )
    if k.window > length:
        raise UserError(
            f"attention.nsa.window={k.window} with model.sequence_length={length}",
            f"choose at most attention.nsa.window={length}",
        )
    if k.chosen * k.block > length:
        raise UserError(
            f"attention.nsa.chosen={k.chosen} blocks of attention.nsa.block={k.block} are more than "
            f"model.sequence_length={length}",
            f"choose at most attention.nsa.chosen={length // k.block}" if length >= 2 * k.block else "choose smaller blocks",
        )
