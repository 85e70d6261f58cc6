"""Schedule-Free AdamW (arXiv 2405.15682): a mean of all iterates is scored, in place of a rate that falls.

    y = (1 - beta1) z + beta1 x       gradients are taken at y, which the weights are while training
    z -= rate (g / (sqrt(v / (1 - beta2^t)) + eps) + decay y)       v the second moment of g
    x += c (z - x)                    c: this step's share in the squares of the largest rates so far; x is scored

A warm-up of the rate weighs its steps less; a rate that falls is refused. Whoever stops reads x, at any step.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harness.optim.optimizers import Update


class ScheduleFree(Update):
    def __init__(
        self, parameters: dict[str, nn.Parameter], multipliers: dict[str, float], keys: Any, dtype: torch.dtype = torch.float32
    ):
        super().__init__(parameters, multipliers, keys, dtype)
        self.mean = {name: p.detach().clone() for name, p in parameters.items()}
        self.iterate = {name: p.detach().clone() for name, p in parameters.items()}
        self.square = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.steps, self.largest, self.weights = (torch.zeros((), dtype=torch.float64) for _ in range(3))

    @torch.no_grad()
    def step(self, scale: float) -> None:
        if not self.steps:  # weights may have been drawn or loaded since
            for name, p in self.parameters.items():
                self.mean[name].copy_(p)
                self.iterate[name].copy_(p)
        k = self.keys
        self.steps += 1
        rate, corrected = k.lr * scale, 1 - k.beta2 ** float(self.steps)
        self.largest.clamp_(min=rate)
        self.weights += self.largest**2
        share = float(self.largest**2 / self.weights) if self.weights else 0.0
        for name, p in self.parameters.items():
            own, square, z, x = rate * self.multipliers[name], self.square[name], self.iterate[name], self.mean[name]
            square.lerp_(p.grad.square(), 1 - k.beta2)
            z.sub_((p.grad / (square / corrected).sqrt_().add_(k.eps)).add_(p, alpha=k.weight_decay), alpha=own)
            x.lerp_(z, share)
            torch.lerp(x, z, 1 - k.beta1, out=p)

    def state(self) -> dict[str, Tensor]:
        found = {"mean": self.mean, "iterate": self.iterate, "square": self.square}
        of_weights = {f"schedule_free.{what}.{name}": t for what, tensors in found.items() for name, t in tensors.items()}
        counts = {"steps": self.steps, "largest": self.largest, "weights": self.weights}
        return of_weights | {f"schedule_free.{name}": t for name, t in counts.items()}

    @torch.no_grad()
    def for_scoring(self) -> None:
        if self.steps:
            for name, p in self.parameters.items():
                p.copy_(self.mean[name])

    @torch.no_grad()
    def for_training(self) -> None:
        if self.steps:
            for name, p in self.parameters.items():
                torch.lerp(self.mean[name], self.iterate[name], 1 - self.keys.beta1, out=p)


PART = ScheduleFree
