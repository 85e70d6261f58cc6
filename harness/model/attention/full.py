"""Causal self-attention with rotary positions and QK-norm, through `kernels.causal_attention` or, where
something else than order says what is seen, torch's `scaled_dot_product_attention`.

Letters: B batch, S sequence, D width, H heads, A head width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from harness.model.attention import Attention
from harness.model.norm import rms_norm
from harness.model.part import Own
from harness.model.product import operand, product
from harness.model.rotary import Rotary, rotate
from harness.model.where import Where
from harness.plan.schema import Model
from kernels import Arithmetic, causal_attention


class Full(Attention):
    OWN = {"query": Own("dense"), "key": Own("dense"), "value": Own("dense"), "output": Own("dense", "output")}

    def __init__(self, model: Model, keys: Any, arithmetic: Arithmetic):
        super().__init__(model, keys, arithmetic)
        self.heads, self.qk_norm, self.arithmetic = model.heads, model.qk_norm, arithmetic
        self.length = model.sequence_length
        for name in self.OWN:
            self.register_parameter(name, nn.Parameter(torch.empty(model.width, model.width)))

    @staticmethod
    def shared(model: Model, keys: Any) -> nn.Module:
        return Rotary(model)

    def flops(self) -> int:
        """Scores and mixing, causal: 12 * width * S / 2."""
        return 6 * self.query.shape[1] * self.length

    def cache_values(self) -> int:
        return self.key.shape[1] + self.value.shape[1]

    def forward(self, x_BSD: Tensor, where: Where) -> Tensor:
        batch, length, width = x_BSD.shape
        shape = (batch, length, self.heads, width // self.heads)
        cos_SA, sin_SA, visible_BSS = where.shared
        length_cos, length_sin = cos_SA[..., :length, :], sin_SA[..., :length, :]
        q, k, v = (product(x_BSD, w, self.arithmetic).view(shape) for w in (self.query, self.key, self.value))
        q, k = q.float(), k.float()
        if self.qk_norm:
            q, k = rms_norm(q), rms_norm(k)
        q, k = rotate(q, length_cos, length_sin), rotate(k, length_cos, length_sin)
        q, k, v = (operand(t, self.arithmetic) for t in (q, k, v))
        if where.cache is None and visible_BSS is None:
            mixed_BSHA = causal_attention(q, k, v, backend=self.backend, arithmetic=self.arithmetic)
        else:
            mixed_BSHA = self._masked(q, k, v, where)
        return product(mixed_BSHA.reshape(batch, length, width), self.output, self.arithmetic)

    def _masked(self, q_BSHA: Tensor, k_BSHA: Tensor, v_BSHA: Tensor, where: Where) -> Tensor:
        """What a mask or a cache says is seen."""
        q, k, v = (t.transpose(1, 2) for t in (q_BSHA, k_BSHA, v_BSHA))
        if where.cache is not None:
            k, v = where.cache.extend(self, k, v)
        visible_BSS = where.shared.visible_BSS
        mask_BHSS = None if visible_BSS is None else visible_BSS[:, None]
        causal = mask_BHSS is None and q.shape[2] == k.shape[2]  # a token alone sees all that the cache has
        return scaled_dot_product_attention(q, k, v, attn_mask=mask_BHSS, is_causal=causal).transpose(1, 2)


PART = Full
