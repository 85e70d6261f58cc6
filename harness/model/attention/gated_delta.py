"""Gated DeltaNet (arXiv 2412.06464): the delta rule with a decay for each head.

    g = -e^{a} softplus(x W_decay + step)        gate = SiLU(x W_gate)

Letters: B batch, S sequence, D width, H heads, K head width.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from harness.model.gated_delta_layer import GatedDeltaLayer
from harness.model.part import Own
from harness.model.product import product
from harness.plan.schema import Model
from kernels import Arithmetic

STEPS = (1e-3, 0.1)  # between which softplus(step) starts


class GatedDelta(GatedDeltaLayer):
    OWN = GatedDeltaLayer.OWN | {
        "decay_in": Own("scalar", "zero"), "rate": Own("scalar", "range", low=0.0, high=math.log(16)),
        "step": Own("scalar", "range", low=math.log(math.expm1(STEPS[0])), high=math.log(math.expm1(STEPS[1]))),
        "gate_in": Own("dense"),
    }  # fmt: skip

    def __init__(self, model: Model, keys: Any, arithmetic: Arithmetic):
        super().__init__(model, keys, arithmetic)
        self.decay_in = nn.Parameter(torch.empty(model.width, model.heads))
        self.rate, self.step = (nn.Parameter(torch.empty(model.heads)) for _ in range(2))
        self.gate_in = nn.Parameter(torch.empty(model.width, model.width))

    def decay(self, x_BSD: Tensor) -> Tensor:
        return (-self.rate.exp() * softplus(x_BSD @ self.decay_in + self.step)).unsqueeze(-1)

    def gate(self, x_BSD: Tensor) -> Tensor:
        found = product(x_BSD, self.gate_in, self.arithmetic).float()
        return silu(found).unflatten(-1, (self.heads, self.head))


PART = GatedDelta
