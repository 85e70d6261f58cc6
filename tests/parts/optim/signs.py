"""A toy optimizer: the sign of the momentum. It scores and keeps a mean of its weights over steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.optim.optimizers import Update
from harness.plan.marks import free


@dataclass
class Keys:
    lr: float = free(0.001, least=0, later=True)
    momentum: float = free(0.9, least=0, most=1, later=True)


def flops_per_step(plan, parameters: int) -> float:
    return 7.0 * parameters


class Signs(Update):
    def __init__(self, parameters, multipliers, keys, dtype):
        super().__init__(parameters, multipliers, keys, dtype)
        self.momentum = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.mean = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def step(self, scale: float) -> None:
        for name, p in self.parameters.items():
            momentum = self.momentum[name].lerp_(p.grad, 1 - self.keys.momentum)
            p.sub_(momentum.sign(), alpha=self.keys.lr * scale * self.multipliers[name])
            self.mean[name].lerp_(p, 0.1)

    def state(self) -> dict[str, Tensor]:
        return {f"signs.{what}.{name}": t for what in ("momentum", "mean") for name, t in getattr(self, what).items()}

    def for_scoring(self) -> None:
        self._swap()

    def for_training(self) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, p in self.parameters.items():
            kept = p.clone()
            p.copy_(self.mean[name])
            self.mean[name].copy_(kept)


PART = Signs
