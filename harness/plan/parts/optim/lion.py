"""Lion's keys; the mathematics: `harness/optim/optimizers/lion.py`."""

from dataclasses import dataclass

from harness.plan.marks import free

NUMBERS_PER_WEIGHT = 1  # the momentum


@dataclass
class Keys:
    lr: float = free(0.0003, least=0, later=True)  # a third to a tenth of AdamW's
    beta1: float = free(0.9, least=0, most=0.9999, later=True)  # of what is looked at
    beta2: float = free(0.99, least=0, most=0.99999, later=True)  # of what is kept
    weight_decay: float = free(0.0, least=0, later=True)
