"""Sliding-window attention: a token sees itself and the W - 1 tokens before it.

Banded, not masked: queries go in blocks of W, each against its own and the block before, so that 2 W keys are multiplied for a
query and not all of a sequence. Where a mask says what is seen, or something is kept of tokens before, the window is a mask.

Letters: B batch, S sequence, H heads, A head width, N blocks, W window.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from harness.model.attention import Attention
from harness.model.part import Own
from harness.model.product import operand, product
from harness.model.rotary import Rotary
from harness.model.softmax_attention import in_heads
from harness.model.where import Where
from harness.plan.schema import Model
from kernels import Arithmetic


class Window(Attention):
    OWN = {"query": Own("dense"), "key": Own("dense"), "value": Own("dense"), "output": Own("dense", "output")}

    def __init__(self, model: Model, keys: Any, arithmetic: Arithmetic):
        super().__init__(model, keys, arithmetic)
        self.heads, self.qk_norm, self.arithmetic = model.heads, model.qk_norm, arithmetic
        self.length, self.window = model.sequence_length, keys.tokens
        for name in self.OWN:
            self.register_parameter(name, nn.Parameter(torch.empty(model.width, model.width)))

    @staticmethod
    def shared(model: Model, keys: Any) -> nn.Module:
        return Rotary(model)

    def flops(self) -> int:
        """12 * width * the mean number of keys that are seen."""
        seen = self.window - self.window * (self.window - 1) / 2 / self.length
        return round(12 * self.query.shape[1] * seen)

    def cache_values(self) -> int:
        """A token's, as long as it is in the window."""
        return self.key.shape[1] + self.value.shape[1]

    def forward(self, x_BSD: Tensor, where: Where) -> Tensor:
        batch, length, width = x_BSD.shape
        weights = (self.query, self.key, self.value)
        q, k, v = in_heads(x_BSD, weights, self.heads, where, self.arithmetic, self.qk_norm, self.memories)
        q, k, v = (operand(t, self.arithmetic).transpose(1, 2) for t in (q, k, v))
        if where.cache is not None:
            k, v = where.cache.extend(self, k, v, keep=self.window)
        if where.cache is None and where.shared.visible_BSS is None and length > self.window:
            mixed_BHSA = self._banded(q, k, v)
        else:
            mask_BHST = self._mask(length, k.shape[2], where, q.device)
            mixed_BHSA = scaled_dot_product_attention(q, k, v, attn_mask=mask_BHST)
        return product(mixed_BHSA.transpose(1, 2).reshape(batch, length, width), self.output, self.arithmetic)

    def _banded(self, q_BHSA: Tensor, k_BHSA: Tensor, v_BHSA: Tensor) -> Tensor:
        batch, heads, length, width = q_BHSA.shape
        window = self.window
        q, k, v = (pad(t, (0, 0, 0, -length % window)).unflatten(2, (-1, window)) for t in (q_BHSA, k_BHSA, v_BHSA))
        k, v = (torch.cat((pad(t, (0, 0, 0, 0, 1, 0))[:, :, :-1], t), 3) for t in (k, v))  # the block before, then its own
        query_W1, key_2W = torch.arange(window, device=q.device)[:, None], torch.arange(2 * window, device=q.device)
        back = query_W1 + window - key_2W
        seen = (back >= 0) & (back < window)
        first = seen & (key_2W >= window)  # before the first block there is nothing
        mask = torch.cat((first[None], seen[None].expand(q.shape[2] - 1, -1, -1))).unsqueeze(1)  # (N, 1, W, 2W)
        q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))  # (B N, H, W or 2W, A)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask.repeat(batch, 1, 1, 1))
        return mixed.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)[:, :, :length]

    def _mask(self, length: int, tokens: int, where: Where, device: torch.device) -> Tensor:
        """(B, 1, S, T): what the window shows of what may be seen at all."""
        if where.position_BS is not None:
            query, key = where.position_BS[:, :, None], where.position_BS[:, None, :]
        else:
            query = torch.arange(tokens - length, tokens, device=device)[None, :, None]
            key = torch.arange(tokens, device=device)[None, None, :]
        near = (query - key >= 0) & (query - key < self.window)
        visible = where.shared.visible_BSS
        if visible is not None and where.cache is None:
            near = near & visible
        return near.unsqueeze(1)


PART = Window
