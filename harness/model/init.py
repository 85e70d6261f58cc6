"""Initial weights, drawn by a counter-based generator keyed by (seed, parameter name): the same on every device.

Matrices: normal with std = matrix_gain / sqrt(fan_in). Output projections of attention and feed-forward start at zero where
`zero_output` (every block starts as the identity, arXiv 2203.03466 appendix D.2). The head starts at zero too: the first loss
is ln V.
"""

import math

import torch

from harness.keyed import generator
from harness.model.router import Hash
from harness.model.transformer import Transformer
from harness.plan.schema import Init

OUTPUTS = ("attention.output", "feedforward.down", "shared.down")


@torch.no_grad()
def initialize(model: Transformer, init: Init, seed: int) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.fill_(1.0)
        elif name == "head.weight" or (init.zero_output and name.endswith(OUTPUTS)):
            parameter.zero_()
        else:
            fan_in = parameter.shape[-2]
            std = init.embedding_std if name == "embedding" else init.matrix_gain / math.sqrt(fan_in)
            draws = generator(seed, "initial weights", name).standard_normal(parameter.shape, dtype="float32")
            parameter.copy_(torch.from_numpy(draws).mul_(std))
    for layer, module in enumerate(m for m in model.modules() if isinstance(m, Hash)):
        module.draw(seed, layer)
