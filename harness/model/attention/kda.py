"""Kimi Delta Attention (Kimi Linear, arXiv 2510.26692): the delta rule with a decay for each key channel.

    g = least * sigmoid(e^{a} (x W_1 W_2 + step))        gate = sigmoid(x W_3 W_4)

The gate of the decay has a lower bound, as in the variant that GLM and flash-linear-attention's `safe_gate` use: no chunk's
decays then leave fp32 (`harness/model/delta_rule.py`). W_1 and W_3 are as narrow as a head.

Letters: B batch, S sequence, D width, H heads, K head width.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from harness.model.attention.gated_delta import STEPS
from harness.model.gated_delta_layer import GatedDeltaLayer
from harness.model.part import Own
from harness.model.product import product
from harness.plan.schema import Model
from kernels import Arithmetic


class KimiDelta(GatedDeltaLayer):
    OWN = GatedDeltaLayer.OWN | {
        "decay_in": Own("dense"), "decay_out": Own("dense"), "rate": Own("scalar", "zero"),
        "step": Own("scalar", "range", low=math.log(STEPS[0]), high=math.log(STEPS[1])),
        "gate_in": Own("dense"), "gate_out": Own("dense"),
    }  # fmt: skip

    def __init__(self, model: Model, keys: Any, arithmetic: Arithmetic):
        super().__init__(model, keys, arithmetic)
        self.LEAST = keys.least
        for name in ("decay", "gate"):
            self.register_parameter(f"{name}_in", nn.Parameter(torch.empty(model.width, self.head)))
            self.register_parameter(f"{name}_out", nn.Parameter(torch.empty(self.head, model.width)))
        self.rate = nn.Parameter(torch.empty(model.heads))
        self.step = nn.Parameter(torch.empty(model.width))

    def decay(self, x_BSD: Tensor) -> Tensor:
        found = self._low_rank(x_BSD, self.decay_in, self.decay_out) + self.step
        found = self.rate.exp().unsqueeze(-1) * found.unflatten(-1, (self.heads, self.head))
        return self.LEAST * torch.sigmoid(found)

    def gate(self, x_BSD: Tensor) -> Tensor:
        return torch.sigmoid(self._low_rank(x_BSD, self.gate_in, self.gate_out)).unflatten(-1, (self.heads, self.head))

    def _low_rank(self, x_BSD: Tensor, inward: Tensor, outward: Tensor) -> Tensor:
        return product(product(x_BSD, inward, self.arithmetic), outward, self.arithmetic).float()


PART = KimiDelta
