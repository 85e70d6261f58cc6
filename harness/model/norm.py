"""RMSNorm, with or without a learned weight; reads and returns fp32."""

import torch
from torch import Tensor, nn

from harness.model.part import Own, Part

EPS = 1e-6


def rms_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


class Norm(Part):
    OWN = {"weight": Own("norm", "one")}

    def __init__(self, width: int, weighted: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width)) if weighted else None

    def forward(self, x: Tensor) -> Tensor:
        y = rms_norm(x)
        return y if self.weight is None else y * self.weight
