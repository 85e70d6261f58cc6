"""AdamW's keys; the mathematics: `harness/optim/optimizers/adamw.py`."""

from dataclasses import dataclass

from harness.plan.marks import free

NUMBERS_PER_WEIGHT = 2  # both moments


@dataclass
class Keys:
    lr: float = free(0.003, least=0)
    beta1: float = free(0.9, least=0, most=0.9999)
    beta2: float = free(0.95, least=0, most=0.99999)
    eps: float = free(1e-8, least=1e-20, most=1)
    weight_decay: float = free(0.0, least=0)
