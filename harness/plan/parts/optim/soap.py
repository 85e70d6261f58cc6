"""SOAP's keys and what its bases cost; the mathematics: `harness/optim/optimizers/soap.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import free

if TYPE_CHECKING:
    from harness.plan.schema import Plan

NUMBERS_PER_WEIGHT = 6  # both moments; of a square matrix two factors and two bases


@dataclass
class Keys:
    lr: float = free(0.003, least=0, later=True)
    beta1: float = free(0.95, least=0, most=0.9999, later=True)
    beta2: float = free(0.95, least=0, most=0.99999, later=True)  # of the second moment, and of both factors
    eps: float = free(1e-8, least=1e-20, most=1, later=True)
    weight_decay: float = free(0.0, least=0, later=True)
    every: int = free(10, least=1, later=True)  # steps between two looks at the bases


def check(plan: "Plan") -> None:
    if plan.optim.others == "soap":
        raise UserError(
            "optim.others=soap, which turns matrices: embeddings, heads, norms and routers are none to it",
            "use optim.matrices=soap, and optim.others=adamw",
        )


def flops_per_step(plan: "Plan", parameters: int) -> float:
    """A matrix (I, O) takes six products of (I, I, O) and of (I, O, O), every so many steps two of cubes and a QR of each."""
    m, k = plan.model, plan.optim.soap
    sides = (m.width, m.expert_width) if m.num_experts else (m.width, m.width)
    cubes = sum(side**3 for side in sides) / (sides[0] * sides[1])
    return parameters * (6 * sum(sides) + (2 * 2 + 4 / 3) * cubes / k.every)
