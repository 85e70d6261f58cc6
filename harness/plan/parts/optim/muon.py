"""Muon's keys and what its iteration costs; the mathematics: `harness/optim/optimizers/muon.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plan.marks import free

if TYPE_CHECKING:
    from harness.plan.schema import Plan

# The momentum, and during the update what the iteration over a stack of matrices takes: with tiny-moe-16e widened to 139 M
# parameters, half of them in one stack, a run peaked 1.2 GiB higher than one momentum asks for.
NUMBERS_PER_WEIGHT = 3.5


@dataclass
class Keys:
    lr: float = free(0.02, least=0)
    momentum: float = free(0.95, least=0, most=0.9999)
    weight_decay: float = free(0.0, least=0)
    newton_schulz_steps: int = free(5, least=1)


def flops_per_step(plan: "Plan", parameters: int) -> float:
    """What the iteration takes: two products of (rows, rows, columns) and one of (rows, rows, rows) per step and matrix,
    which for matrices twice as wide as high is 5 x rows per parameter."""
    m = plan.model
    rows = min(m.width, m.expert_width) if m.num_experts else m.width
    return plan.optim.muon.newton_schulz_steps * 5 * rows * parameters
