"""Causal self-attention with rotary positions and QK-norm. Dials: fewer heads of keys and values (arXiv 2305.13245), a gain on
the scores, rotation of a part of each head alone or of nothing (arXiv 2305.19466), keys that have half of their other channels
from the token before, a gate on each head's output.

Letters: B batch, S sequence, D width, H heads, G heads of keys and values, A head width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harness.model.attention import Attention
from harness.model.key_offset import KeyOffset
from harness.model.part import Own
from harness.model.product import operand, product
from harness.model.rotary import Rotary
from harness.model.softmax_attention import attend, in_heads, score_peaks, score_weights
from harness.model.where import Where
from harness.plan.schema import Model
from kernels import Arithmetic


class Full(Attention):
    OWN = {
        "query": Own("dense"), "key": Own("dense"), "value": Own("dense"), "output": Own("dense", "output"),
        "gate": Own("scalar", "zero"),
    }  # fmt: skip

    def __init__(self, model: Model, keys: Any, arithmetic: Arithmetic):
        super().__init__(model, keys, arithmetic)
        self.heads, self.qk_norm, self.arithmetic = model.heads, model.qk_norm, arithmetic
        self.length, self.gain = model.sequence_length, keys.gain
        head = model.width // model.heads
        served = head * (keys.kv_heads or model.heads)
        for name, width in (("query", model.width), ("key", served), ("value", served), ("output", model.width)):
            self.register_parameter(name, nn.Parameter(torch.empty(model.width, width)))
        self.gate = nn.Parameter(torch.empty(model.width, model.heads)) if keys.head_gate else None
        self.offset = KeyOffset((head - keys.rotated) // 2) if keys.key_offset else None  # without positions rotated is 0
        if keys.key_offset:
            self.CANNOT = frozenset({"packed rows"})

    @staticmethod
    def shared(model: Model, keys: Any) -> nn.Module:
        return Rotary(model, 0 if keys.positions == "none" else keys.rotated or None)

    def flops(self) -> int:
        """Scores and mixing, causal: 12 * width * S / 2; and the gate."""
        return 6 * self.query.shape[1] * self.length + (0 if self.gate is None else 6 * self.gate.numel())

    def cache_values(self) -> int:
        """Beside them the offset keeps channels of the last token alone."""
        return self.key.shape[1] + self.value.shape[1]

    def forward(self, x_BSD: Tensor, where: Where) -> Tensor:
        batch, length, width = x_BSD.shape
        q, k, v = self._operands(x_BSD, where)
        if where.cache is not None:
            k, v = (t.transpose(1, 2) for t in where.cache.extend(self, k.transpose(1, 2), v.transpose(1, 2)))
        mixed_BSHA = attend(q, k, v, where.shared, self.arithmetic, self.backend)
        if self.gate is not None:
            mixed_BSHA = mixed_BSHA * (2 * torch.sigmoid(x_BSD.float() @ self.gate)).to(mixed_BSHA.dtype).unsqueeze(-1)
        return product(mixed_BSHA.reshape(batch, length, width), self.output, self.arithmetic)

    def _operands(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Tensor, Tensor]:
        """q_BSHA, k_BSGA and v_BSGA as the scores and the mixing take them."""
        weights = (self.query, self.key, self.value)
        q, k, v = in_heads(x_BSD, weights, self.heads, where, self.arithmetic, self.qk_norm, self.memories)
        if self.offset is not None:
            k = self.offset(k, where)
        if self.gain != 1.0:
            q = q * self.gain
        q, k, v = (operand(t, self.arithmetic) for t in (q, k, v))
        return q, k, v

    def peaks(self, x_BSD: Tensor, where: Where) -> Tensor:
        q, k, _ = self._operands(x_BSD, where)
        return score_peaks(q, k, where)

    def weights(self, x_BSD: Tensor, where: Where) -> Tensor:
        q, k, _ = self._operands(x_BSD, where)
        return score_weights(q, k, where)

    def shrink(self, factor_H: Tensor) -> None:
        """Half of it by the queries and half by the keys; heads that share keys all by the least of theirs."""
        head = self.query.shape[1] // self.heads
        root_G = factor_H.view(self.key.shape[1] // head, -1).amin(1).sqrt()
        self.query.mul_(root_G.repeat_interleave(self.query.shape[1] // len(root_G)))
        self.key.mul_(root_G.repeat_interleave(head))


PART = Full
