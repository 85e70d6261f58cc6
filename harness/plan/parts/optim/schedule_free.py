"""Schedule-Free AdamW's keys; the mathematics: `harness/optim/optimizers/schedule_free.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import free

if TYPE_CHECKING:
    from harness.plan.schema import Plan

NUMBERS_PER_WEIGHT = 3  # the mean, the iterate, the second moment


@dataclass
class Keys:
    lr: float = free(0.01, least=0, later=True)
    beta1: float = free(0.9, least=0, most=0.9999, later=True)  # how near to the mean gradients are taken
    beta2: float = free(0.95, least=0, most=0.99999, later=True)
    eps: float = free(1e-8, least=1e-20, most=1, later=True)
    weight_decay: float = free(0.0, least=0, later=True)


def check(plan: "Plan") -> None:
    if plan.schedule.decay_share:
        raise UserError(
            f"schedule.decay_share={plan.schedule.decay_share} with the optimizer schedule_free, whose mean stands for a decay",
            "use schedule.decay_share=0",
        )
