"""What attentions of scores share: queries, keys and values of heads, and softmax over what is seen.

Letters: B batch, S queries, T keys, D width, H heads, A head width, G key-value heads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from harness.model.memory import InBlock
from harness.model.norm import rms_norm
from harness.model.product import product
from harness.model.rotary import Angles, rotate
from harness.model.where import Where
from kernels import Arithmetic, causal_attention, document_attention


def in_heads(
    x_BSD: Tensor, weights: Sequence[Tensor], heads: int, where: Where, arithmetic: Arithmetic, qk_norm: bool,
    memories: Sequence[InBlock],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """q_BSHA and k_BSGA in fp32, normed by head where that is asked for, and rotated as far as the angles reach; v_BSGA as the
    product or a memory leaves it. `weights`: of queries, keys and values; `heads` of queries; `where.shared`: the angles."""
    batch, length, width = x_BSD.shape
    q, k, v = (product(x_BSD, w, arithmetic).view(batch, length, -1, width // heads) for w in weights)
    for memory in memories:
        q, k, v = memory.heads(q, k, v, x_BSD, where)
    q, k, angles = q.float(), k.float(), where.shared
    if qk_norm:
        q, k = rms_norm(q), rms_norm(k)
    cos_SA, sin_SA = (t[..., :length, :] for t in angles[:2])
    return _rotated(q, cos_SA, sin_SA), _rotated(k, cos_SA, sin_SA), v


def _rotated(x_BSHA: Tensor, cos_SA: Tensor, sin_SA: Tensor) -> Tensor:
    if not cos_SA.shape[-1]:
        return x_BSHA
    still = x_BSHA.shape[-1] - 2 * cos_SA.shape[-1]
    if not still:
        return rotate(x_BSHA, cos_SA, sin_SA)
    turned, rest = x_BSHA.split((x_BSHA.shape[-1] - still, still), -1)
    return torch.cat((rotate(turned, cos_SA, sin_SA), rest), -1)


def attend(q_BSHA: Tensor, k_BTGA: Tensor, v_BTGA: Tensor, angles: Angles, arithmetic: Arithmetic, backend: str) -> Tensor:
    """o_BSHA. Operands of the arithmetic; H is a multiple of G, whose heads serve as many queries in turn. Where nothing else
    says what is seen, a token sees itself and what is before it; one that comes alone after a cache sees all."""
    if k_BTGA.shape[2] != q_BSHA.shape[2]:
        shared = q_BSHA.shape[2] // k_BTGA.shape[2]
        k_BTGA, v_BTGA = (t.repeat_interleave(shared, 2) for t in (k_BTGA, v_BTGA))
    if angles.blocks is not None:
        return document_attention(q_BSHA, k_BTGA, v_BTGA, angles.blocks)
    if angles.visible_BSS is None and q_BSHA.shape == k_BTGA.shape == v_BTGA.shape:
        return causal_attention(q_BSHA, k_BTGA, v_BTGA, backend=backend, arithmetic=arithmetic)
    q, k, v = (t.transpose(1, 2) for t in (q_BSHA, k_BTGA, v_BTGA))
    mask_BHSS = None if angles.visible_BSS is None else angles.visible_BSS[:, None]
    causal = mask_BHSS is None and q.shape[2] == k.shape[2]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask_BHSS, is_causal=causal).transpose(1, 2)


QUERIES_AT_ONCE = 256  # of a sequence, whose scores exist at a time


def score_peaks(q_BSHA: Tensor, k_BSGA: Tensor, where: Where) -> Tensor:
    """fp32 (H,): the largest magnitude of a head's scores q k^T / sqrt(A), of tokens that see each other in training."""
    q_BHSA, k_BHSA = _of_heads(q_BSHA, k_BSGA)
    peak_H = q_BHSA.new_zeros(q_BHSA.shape[1])
    for first in range(0, q_BHSA.shape[2], QUERIES_AT_ONCE):
        score_BHQS, unseen = _scores(q_BHSA, k_BHSA, where, first)
        peak_H = torch.maximum(peak_H, score_BHQS.abs().masked_fill(unseen, 0.0).amax((0, 2, 3)))
    return peak_H


def score_weights(q_BSHA: Tensor, k_BSGA: Tensor, where: Where) -> Tensor:
    """fp32 (B, H, S, S): softmax of the same scores, of each query over what it sees in training."""
    q_BHSA, k_BHSA = _of_heads(q_BSHA, k_BSGA)
    found = []
    for first in range(0, q_BHSA.shape[2], QUERIES_AT_ONCE):
        score_BHQS, unseen = _scores(q_BHSA, k_BHSA, where, first)
        found.append(score_BHQS.masked_fill(unseen, float("-inf")).softmax(-1))
    return torch.cat(found, 2)


def _of_heads(q_BSHA: Tensor, k_BSGA: Tensor) -> tuple[Tensor, Tensor]:
    """fp32 (B, H, S, A) both: the keys repeated for the queries that share them."""
    shared = q_BSHA.shape[2] // k_BSGA.shape[2]
    return q_BSHA.float().transpose(1, 2), k_BSGA.float().transpose(1, 2).repeat_interleave(shared, 1)


def _scores(q_BHSA: Tensor, k_BHSA: Tensor, where: Where, first: int) -> tuple[Tensor, Tensor]:
    """(score_BHQS, unseen): of QUERIES_AT_ONCE queries from `first` on, and which keys a query does not see."""
    at = torch.arange(q_BHSA.shape[2], device=q_BHSA.device)
    unseen = (at[first : first + QUERIES_AT_ONCE, None] < at)[None, None]
    if where.document_BS is not None:
        document_BQ = where.document_BS[:, first : first + QUERIES_AT_ONCE]
        unseen = unseen | (document_BQ[:, None, :, None] != where.document_BS[:, None, None, :])
    score_BHQS = (q_BHSA[:, :, first : first + QUERIES_AT_ONCE] @ k_BHSA.mT) * q_BHSA.shape[-1] ** -0.5
    return score_BHQS, unseen
