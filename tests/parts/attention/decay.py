"""A toy attention: every value decays by a constant factor a token; no scores, no positions.

Letters: B batch, S sequence, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.model.attention import Attention
from harness.model.part import Own
from harness.model.product import product
from harness.model.where import Where
from harness.plan.marks import frozen


@dataclass
class Keys:
    rate: float = frozen(0.5, least=0, most=1, later=True)


def check(plan) -> None:
    if plan.model.qk_norm:
        raise UserError("model.qk_norm=true with model.attention=decay, which has no keys", "use model.qk_norm=false")


class Decay(Attention):
    OWN = {"value": Own("dense"), "output": Own("dense", "output")}
    CANNOT = frozenset({"document masks", "packed rows", "decoding"})

    def __init__(self, model, keys, arithmetic):
        super().__init__(model, keys, arithmetic)
        self.arithmetic, self.length = arithmetic, model.sequence_length
        self.value = nn.Parameter(torch.empty(model.width, model.width))
        self.output = nn.Parameter(torch.empty(model.width, model.width))

    @staticmethod
    def shared(model, keys) -> nn.Module:
        return Weights(model.sequence_length, keys.rate)

    def flops(self) -> int:
        return 3 * self.value.shape[1] * self.length

    def cache_values(self) -> int:
        return 0  # the sum so far is of no token

    def forward(self, x_BSD: Tensor, where: Where) -> Tensor:
        length = x_BSD.shape[1]
        value_BSD = product(x_BSD, self.value, self.arithmetic).float()
        mixed_BSD = where.shared[:length, :length] @ value_BSD
        return product(mixed_BSD, self.output, self.arithmetic)


class Weights(nn.Module):
    """(S, S) of rate ** (how far back), once for all layers."""

    def __init__(self, length: int, rate: float):
        super().__init__()
        back_SS = torch.arange(length)[:, None] - torch.arange(length)
        weight_SS = torch.where(back_SS >= 0, rate ** back_SS.clamp(min=0).float(), 0.0)
        self.register_buffer("weight_SS", weight_SS, persistent=False)

    def forward(self, where: Where) -> Tensor:
        return self.weight_SS


PART = Decay
