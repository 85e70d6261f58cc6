"""Causal self-attention with rotary positions and QK-norm, through torch's `scaled_dot_product_attention`.

Letters: B batch, S sequence, D width, H heads, A head width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from harness.model.norm import rms_norm
from harness.model.product import operand, product
from harness.plan.schema import Model
from kernels import Arithmetic


def rotary(sequence_length: int, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin, each fp32 (S, A/2), of the angles position x base^(-2i/A) (arXiv 2104.09864)."""
    frequency = base ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angle = torch.arange(sequence_length, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float(), angle.sin().float()


def rotate(x_BSHA: Tensor, cos_SA: Tensor, sin_SA: Tensor) -> Tensor:
    """`cos_SA`, `sin_SA` may have a batch dimension before S."""
    first, second = x_BSHA.chunk(2, dim=-1)
    cos, sin = cos_SA.unsqueeze(-2), sin_SA.unsqueeze(-2)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def within_documents(document_BS: Tensor | None) -> Tensor | None:
    """visible_BSS: each input looks at itself and at those before it that have its number in `document_BS` (int64).

    Positions need no restart with it: rotary scores depend only on how far two inputs are apart, so where in the row a
    document begins changes nothing but rounding. The mask takes S*S bytes a sequence (4 MB at 2,048). With a mask torch's
    attention cannot be its flash kernel: on CUDA it is the memory-efficient one, which keeps the mask in the operands'
    dtype for the backward.
    """
    if document_BS is None:
        return None
    length = document_BS.shape[1]
    causal_SS = torch.ones(length, length, dtype=torch.bool, device=document_BS.device).tril()
    return (document_BS[:, :, None] == document_BS[:, None, :]) & causal_SS


class Attention(nn.Module):
    MATRICES = ("query", "key", "value", "output")  # its parameters, all of them (width, width)

    def __init__(self, model: Model, arithmetic: Arithmetic):
        super().__init__()
        self.heads, self.qk_norm, self.arithmetic = model.heads, model.qk_norm, arithmetic
        for name in self.MATRICES:
            self.register_parameter(name, nn.Parameter(torch.empty(model.width, model.width)))

    def forward(self, x_BSD: Tensor, cos_SA: Tensor, sin_SA: Tensor, visible_BSS: Tensor | None = None) -> Tensor:
        """The attention's contribution to the residual stream, in the arithmetic's dtype. `visible_BSS` (bool: query, key)
        replaces the causal mask; with positions of its own, `cos_SA` and `sin_SA` are BSA."""
        batch, length, width = x_BSD.shape
        shape = (batch, length, self.heads, width // self.heads)
        length_cos, length_sin = cos_SA[..., :length, :], sin_SA[..., :length, :]
        q, k, v = (product(x_BSD, w, self.arithmetic).view(shape) for w in (self.query, self.key, self.value))
        q, k = q.float(), k.float()
        if self.qk_norm:
            q, k = rms_norm(q), rms_norm(k)
        q, k = rotate(q, length_cos, length_sin), rotate(k, length_cos, length_sin)
        q, k, v = (operand(t, self.arithmetic).transpose(1, 2) for t in (q, k, v))
        mask_BHSS = None if visible_BSS is None else visible_BSS[:, None]
        mixed_BHSA = scaled_dot_product_attention(q, k, v, attn_mask=mask_BHSS, is_causal=mask_BHSS is None)
        return product(mixed_BHSA.transpose(1, 2).reshape(batch, length, width), self.output, self.arithmetic)
