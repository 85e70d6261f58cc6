"""QK-clip (Kimi K2, arXiv 2507.20534): after a step the queries and keys of a head whose largest score of the step's tokens was
above a bound are made smaller, so that the same tokens would meet the bound. Each attention says how (`Attention.shrink`).

Letters: L layers, H heads.
"""

import torch
from torch import Tensor

from harness.model.transformer import Transformer


@torch.no_grad()
def clip_scores(model: Transformer, peak_LH: Tensor, most: float) -> None:
    """`peak_LH`: the largest magnitudes of the step's scores, over micro-batches and ranks."""
    for block, peak_H in zip(model.blocks, peak_LH, strict=True):
        block.attention.shrink(most / peak_H.clamp(min=most))
