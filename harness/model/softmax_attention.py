"""Softmax attention over what is seen, however the attention at hand came by its queries, keys and values.

Letters: B batch, S queries, T keys, H heads, A head width, G key-value heads.
"""

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from harness.model.rotary import Angles
from kernels import Arithmetic, causal_attention, document_attention


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
