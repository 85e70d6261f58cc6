"""Causal self-attention within documents on a GPU: torch's FlexAttention, which leaves out blocks of other documents.

A dense mask costs all of S x S in the memory-efficient kernel, and is kept for the backward. FlexAttention's backward has no
atomics: dq is summed by the program of its queries, dk and dv by that of their keys, over blocks in a fixed order.

Letters: B batch, S sequence, H heads, A head width.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


def document_blocks(document_BS: Tensor) -> "BlockMask":
    """What `document_attention` needs of int64 documents: a token looks at its own one's tokens up to itself. Once for all
    layers of a model: it looks at every pair of tokens."""

    def visible(b, h, query, key):
        return (query >= key) & (document_BS[b, query] == document_BS[b, key])

    from torch.nn.attention.flex_attention import create_block_mask  # which takes long to import

    batch, length = document_BS.shape
    return create_block_mask(visible, batch, None, length, length, device=document_BS.device)


def document_attention(q_BSHA: Tensor, k_BSHA: Tensor, v_BSHA: Tensor, blocks: "BlockMask") -> Tensor:
    """o_BSHA: softmax over the keys that each query sees of q k^T / sqrt(A), times v; differentiable on a GPU, where it is
    compiled."""
    from torch.nn.attention.flex_attention import flex_attention

    by_head = (t.transpose(1, 2) for t in (q_BSHA, k_BSHA, v_BSHA))
    attend = _compiled() if q_BSHA.is_cuda and not torch.compiler.is_compiling() else flex_attention
    return attend(*by_head, block_mask=blocks).transpose(1, 2)


@cache
def _compiled() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)
