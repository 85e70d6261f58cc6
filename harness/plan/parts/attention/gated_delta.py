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
    check_lengths(plan, "gated_delta")


def check_lengths(plan: "Plan", name: str) -> None:
    """For any attention of the delta rule. Raises: UserError for a chunk or a convolution longer than a sequence."""
    k, length = getattr(plan.attention, name), plan.model.sequence_length
    for key, most in (("chunk", min(length, MOST)), ("taps", length)):
        if (value := getattr(k, key)) > length:
            raise UserError(
                f"attention.{name}.{key}={value} with model.sequence_length={length}",
                f"choose at most attention.{name}.{key}={most}",
            )
