"""Keys of Kimi Delta Attention; the mathematics: `harness/model/attention/kda.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import free, frozen
from harness.plan.parts.attention.gated_delta import check_lengths

if TYPE_CHECKING:
    from harness.plan.schema import Plan

REACH = 80.0  # of logarithms of decays within a chunk: e^80 is near where fp32 ends


@dataclass
class Keys:
    taps: int = frozen(4, least=1, later=True)  # of the convolutions on queries, keys and values; 1: none
    least: float = frozen(-5.0, most=0, least=-80, later=True)  # no logarithm of a decay is below it
    chunk: int = free(16, least=1, most=64, later=True)


def check(plan: "Plan") -> None:
    k = plan.attention.kda
    check_lengths(plan, "kda")
    if (reach := (k.chunk - 1) * -k.least) > REACH:
        raise UserError(
            f"attention.kda.chunk={k.chunk} with attention.kda.least={k.least}: decays of a chunk reach e^-{reach:g}, which "
            "fp32 does not hold",
            f"choose at most attention.kda.chunk={int(REACH / -k.least) + 1}",
        )
