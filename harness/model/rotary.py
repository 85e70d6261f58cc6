"""Rotary positions, and the mask that goes with them: what attentions share, and all layers of a model.

Letters: B batch, S sequence, H heads, A head width.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from harness.model.where import Where, within_documents
from kernels import document_blocks

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from harness.plan.schema import Model


class Angles(NamedTuple):
    """What all layers share. `visible_BSS` (bool: query, key) replaces the causal mask; of positions of their own `cos_SA`
    and `sin_SA` are BSA."""

    cos_SA: Tensor
    sin_SA: Tensor
    visible_BSS: Tensor | None
    blocks: "BlockMask | None" = None  # of documents, in place of a mask (`kernels.document_attention`)


class Rotary(nn.Module):
    backend = "torch"  # of attention: the model sets it on its own

    def __init__(self, model: "Model", rotated: int | None = None):
        """`rotated`: of a head's width, all of it for None."""
        super().__init__()
        width = model.width // model.heads if rotated is None else rotated
        with torch.device("cpu"):  # the same angles on every device
            cos, sin = rotary(model.sequence_length, width, model.rope_base)
        self.register_buffer("cos_SA", cos, persistent=False)
        self.register_buffer("sin_SA", sin, persistent=False)

    def forward(self, where: Where) -> Angles:
        visible_BSS, blocks = where.visible_BSS, None
        if visible_BSS is None and where.document_BS is not None:
            if self.backend == "flex":
                blocks = document_blocks(where.document_BS)
            else:
                visible_BSS = within_documents(where.document_BS)
        if where.position_BS is None:
            first, length = where.cache.length if where.cache else 0, where.token_BS.shape[1]
            if first and length > 1:  # causal from the token that the cache ends with
                causal_SS = torch.ones(length, first + length, dtype=torch.bool, device=where.token_BS.device)
                visible_BSS = causal_SS.tril(first).expand(len(where.token_BS), -1, -1)
            return Angles(self.cos_SA[first:], self.sin_SA[first:], visible_BSS, blocks)
        return Angles(self.cos_SA[where.position_BS], self.sin_SA[where.position_BS], visible_BSS, blocks)


def rotary(sequence_length: int, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin, each fp32 (S, A/2), of the angles position x base^(-2i/A) (arXiv 2104.09864)."""
    frequency = base ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / max(head_width, 1))
    angle = torch.arange(sequence_length, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float(), angle.sin().float()


def rotate(x_BSHA: Tensor, cos_SA: Tensor, sin_SA: Tensor) -> Tensor:
    """`cos_SA`, `sin_SA` may have a batch dimension before S."""
    first, second = x_BSHA.chunk(2, dim=-1)
    cos, sin = cos_SA.unsqueeze(-2), sin_SA.unsqueeze(-2)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
