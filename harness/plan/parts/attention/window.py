"""Keys of sliding-window attention; the mathematics: `harness/model/attention/window.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan

GIVES_HEADS = True


@dataclass
class Keys:
    tokens: int = frozen(64, least=1, later=True)  # that a token sees, itself included


def check(plan: "Plan") -> None:
    tokens, length = plan.attention.window.tokens, plan.model.sequence_length
    if tokens >= length:
        raise UserError(
            f"attention.window.tokens={tokens} with model.sequence_length={length}: the window sees everything",
            f"choose at most attention.window.tokens={length - 1}, or use model.attention=full",
        )
