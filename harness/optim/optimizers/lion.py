"""Lion (arXiv 2302.06675): every weight moves by the rate, in the direction of the sign of a momentum.

    u = sign(beta1 m + (1 - beta1) g)     w -= rate (u + decay w)     m = beta2 m + (1 - beta2) g

A matrix of a stack whose gradient is zero throughout, as that of an expert without tokens, rests: the sign of what is left of a
momentum, however small, would move it at full speed.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harness.optim.optimizers import Update, with_gradient


class Lion(Update):
    def __init__(
        self, parameters: dict[str, nn.Parameter], multipliers: dict[str, float], keys: Any, dtype: torch.dtype = torch.float32
    ):
        super().__init__(parameters, multipliers, keys, dtype)
        self.momentum = {name: torch.zeros_like(p) for name, p in parameters.items()}

    @torch.no_grad()
    def step(self, scale: float) -> None:
        k = self.keys
        for name, p in self.parameters.items():
            rate, momentum = k.lr * scale * self.multipliers[name], self.momentum[name]
            update = momentum.lerp(p.grad, 1 - k.beta1).sign_()
            if p.ndim == 3:
                update *= with_gradient(p.grad)
            p.mul_(1 - rate * k.weight_decay).sub_(update, alpha=rate)
            momentum.lerp_(p.grad, 1 - k.beta2)

    def state(self) -> dict[str, Tensor]:
        return {f"lion.momentum.{name}": tensor for name, tensor in self.momentum.items()}


PART = Lion
