"""Keys of Gated DeltaNet; the mathematics: `harness/model/attention/gated_delta.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import free, frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan

MOST = 64  # of a chunk: its triangular system is solved one after the other


@dataclass
class Keys:
    taps: int = frozen(4, least=1, later=True)  # of the convolutions on queries, keys and values; 1: none
    chunk: int = free(32, least=1, most=MOST, later=True)


def check(plan: "Plan") -> None:
    check_chunk("gated_delta", plan.attention.gated_delta.chunk, plan.model.sequence_length)


def check_chunk(name: str, chunk: int, length: int) -> None:
    if chunk > length:
        raise UserError(
            f"attention.{name}.chunk={chunk} with model.sequence_length={length}", f"choose at most {min(length, MOST)}"
        )
