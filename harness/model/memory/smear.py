"""Smear (modded-nanogpt): each embedding has some of the one before it added, before anything else reads it.

    x_t <- x_t + lambda sigmoid(g . x_t[:channels]) x_{t-1}        lambda starts at 0

Letters: B batch, S sequence, D width.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.model.earlier import one_before
from harness.model.memory import Memory
from harness.model.part import Own
from harness.model.where import Where

if TYPE_CHECKING:
    from harness.plan.schema import Model


class Smear(Memory):
    OWN = {"share": Own("scalar", "zero"), "gate": Own("scalar", "zero")}
    CANNOT = frozenset({"packed rows"})

    def __init__(self, model: "Model", keys: Any):
        super().__init__(model, keys)
        self.share, self.gate = nn.Parameter(torch.empty(1)), nn.Parameter(torch.empty(keys.channels))

    def flops(self) -> int:
        return 6 * (self.gate.numel() + self.shape.width)

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, None]:
        gate_BS = torch.sigmoid((x_BSD[..., : len(self.gate)] * self.gate).sum(-1))
        return x_BSD + (self.share * gate_BS).unsqueeze(-1) * one_before(x_BSD, where, self), None


PART = Smear
