"""A scale on each expert's weight gradients: it changes what an update sees, never the forward.

The loss is a mean over all T tokens of a step, but an expert sees a part of them, K/E in balance: its gradient is that much
smaller than a dense layer's. `constant` multiplies by E/K, as if every expert's loss were a mean over an even share; `load`
by T / rows, a mean over the rows that the expert really computed. Both are the same in balance. Norms and clipping see the
scaled gradients.

Muon's update does not depend on the gradient's size, AdamW's hardly: of them `constant` changes what clipping does and little
else (`optim.multipliers.expert` is the dial for the rate). `load` weighs an expert's steps against each other in its moments:
as means over rows, so that a step of few rows, whose mean is mostly noise, weighs more there than one of many.
"""

import torch
from torch import Tensor

from harness.model.feedforward import Experts
from harness.model.transformer import Transformer


@torch.no_grad()
def scale_expert_gradients(model: Transformer, rows_LE: Tensor, tokens: int, rule: str) -> None:
    """`rows_LE`: int64 rows that each expert computed in the step of `tokens` tokens; `rule`: none | constant | load."""
    if rule == "none":
        return
    layers = [m for m in model.modules() if isinstance(m, Experts)]
    assert len(layers) == rows_LE.shape[0]
    for experts, rows_E in zip(layers, rows_LE):
        if rule == "constant":
            scale_E = torch.full_like(rows_E, experts.num_experts / model.shape.top_k, dtype=torch.float32)
        else:
            scale_E = tokens / rows_E.clamp(min=1).float()  # an expert without rows has no gradient to scale
        for parameter in (experts.up, experts.down):
            parameter.grad.mul_(scale_E[experts.held.start : experts.held.stop].view(-1, 1, 1))
