"""AdamW (arXiv 1711.05101) from torch, with its state as named tensors so that checkpoints hold no pickles."""

from typing import Any

import torch
from torch import Tensor, nn

from harness.optim.optimizers import Update


class AdamW(Update):
    def __init__(
        self, parameters: dict[str, nn.Parameter], multipliers: dict[str, float], keys: Any, dtype: torch.dtype = torch.float32
    ):
        super().__init__(parameters, multipliers, keys, dtype)
        groups = [{"params": [p], "multiplier": multipliers[name]} for name, p in parameters.items()]
        self.torch = torch.optim.AdamW(
            groups, lr=keys.lr, betas=(keys.beta1, keys.beta2), eps=keys.eps,
            weight_decay=keys.weight_decay, fused=True,
        )  # fmt: skip
        for p in parameters.values():
            self.torch.state[p] = {
                "step": torch.zeros((), dtype=torch.float32, device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }

    def step(self, scale: float) -> None:
        for group in self.torch.param_groups:
            group["lr"] = self.keys.lr * group["multiplier"] * scale
        self.torch.step()

    def state(self) -> dict[str, Tensor]:
        parameters = (group["params"][0] for group in self.torch.param_groups)
        return {
            f"adamw.{key}.{name}": tensor
            for name, p in zip(self.parameters, parameters)
            for key, tensor in self.torch.state[p].items()
        }


PART = AdamW
