"""AdamW (arXiv 1711.05101) from torch, with its state as named tensors so that checkpoints hold no pickles."""

import torch
from torch import Tensor, nn

from harness.plan.schema import AdamW as AdamWPlan


class AdamW:
    def __init__(self, parameters: dict[str, nn.Parameter], multipliers: dict[str, float], plan: AdamWPlan):
        self.plan, self.names = plan, list(parameters)
        groups = [{"params": [p], "multiplier": multipliers[name]} for name, p in parameters.items()]
        self.torch = torch.optim.AdamW(
            groups, lr=plan.lr, betas=(plan.beta1, plan.beta2), eps=plan.eps,
            weight_decay=plan.weight_decay, fused=True,
        )  # fmt: skip
        for p in parameters.values():
            self.torch.state[p] = {
                "step": torch.zeros((), dtype=torch.float32, device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }

    def step(self, scale: float) -> None:
        """One update at `scale` times the planned learning rate; reads and keeps `p.grad`."""
        for group in self.torch.param_groups:
            group["lr"] = self.plan.lr * group["multiplier"] * scale
        self.torch.step()

    def state(self) -> dict[str, Tensor]:
        parameters = (group["params"][0] for group in self.torch.param_groups)
        return {
            f"adamw.{key}.{name}": tensor
            for name, p in zip(self.names, parameters)
            for key, tensor in self.torch.state[p].items()
        }
