"""What the attentions of the delta rule share: projections, short convolutions, the state, the gated norm.

    q, k = L2(SiLU(conv(x W)))   v = SiLU(conv(x W))   beta = sigmoid(x W_beta)
    o = delta rule of (q / sqrt(K), k, v, g, beta)     y = (RMSNorm_head(o) * gate(x)) W_out

There are no positions: the state and the convolutions know the order. fp32 but for the projections.

Letters: B batch, S sequence, D width, H heads, K head width of keys and values, W taps, P = W - 1 tokens kept.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from harness.model.attention import Attention
from harness.model.delta_rule import chunked, recurrent
from harness.model.norm import rms_norm
from harness.model.part import Own
from harness.model.product import product
from harness.model.short_conv import short_conv
from harness.model.where import Where
from harness.plan.schema import Model
from kernels import Arithmetic

L2_EPS = 1e-6


class GatedDeltaLayer(Attention):
    """A subclass says `decay` (B, S, H, K or 1), the logarithms, and `gate` (B, S, H, K)."""

    OWN = {
        "query": Own("dense"), "key": Own("dense"), "value": Own("dense"), "output": Own("dense", "output"),
        "taps": Own("scalar", "tap"), "beta": Own("scalar", "zero"), "head_norm": Own("norm", "one"),
    }  # fmt: skip
    CANNOT = frozenset({"document masks", "packed rows"})
    LEAST = 0.0

    def __init__(self, model: Model, keys: Any, arithmetic: Arithmetic):
        super().__init__(model, keys, arithmetic)
        self.heads, self.head, self.chunk, self.arithmetic = model.heads, model.width // model.heads, keys.chunk, arithmetic
        for name in ("query", "key", "value", "output"):
            self.register_parameter(name, nn.Parameter(torch.empty(model.width, model.width)))
        self.taps = nn.Parameter(torch.empty(keys.taps, 3 * model.width))
        self.beta = nn.Parameter(torch.empty(model.width, model.heads))
        self.head_norm = nn.Parameter(torch.empty(self.head))

    def core_flops(self) -> int:
        """A token's, forward, in products of which half is needed, half: within a chunk its key with those before it, its query
        with those up to its own, and the mixing of as many; the triangular system, solved for keys and values; three products
        with the state. Sums of decays are not counted."""
        head, chunk = self.head, self.chunk
        within, solved = (chunk - 1) * head + 2 * (chunk + 1) * head, (chunk - 1) * 2 * head
        return self.heads * (within + solved + 6 * head**2)

    def flops(self) -> int:
        small = sum(p.numel() for name, p in self.named_parameters() if self.OWN[name].group == "scalar" and p.ndim == 2)
        return 3 * self.core_flops() + 6 * small

    def cache_values(self) -> int:
        return 0  # the state is of no token

    def decay(self, x_BSD: Tensor) -> Tensor:
        raise NotImplementedError

    def gate(self, x_BSD: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x_BSD: Tensor, where: Where) -> Tensor:
        batch, length, width = x_BSD.shape
        inputs = torch.cat([product(x_BSD, w, self.arithmetic).float() for w in (self.query, self.key, self.value)], -1)
        kept = where.cache.get(self) if where.cache is not None else None
        before = None if kept is None else kept[0]
        q, k, v = silu(short_conv(inputs, self.taps, before)).view(batch, length, 3, self.heads, self.head).unbind(2)
        q, k = (t * torch.rsqrt(t.square().sum(-1, keepdim=True) + L2_EPS) for t in (q, k))
        x_BSD = x_BSD.float()
        g, beta = self.decay(x_BSD), torch.sigmoid(x_BSD @ self.beta)
        state = inputs.new_zeros(batch, self.heads, self.head, self.head) if kept is None else kept[1]
        q, k, v, g, beta = (t.transpose(1, 2) for t in (q * self.head**-0.5, k, v, g, beta))
        if length == 1:
            o, state = recurrent(q, k, v, g, beta, state)
        else:
            o, state = chunked(q, k, v, g, beta, state, min(self.chunk, length), self.LEAST)
        if where.cache is not None:
            where.cache.put(self, self._last(inputs, before), state)
        o_BSHK = rms_norm(o.transpose(1, 2)) * self.head_norm * self.gate(x_BSD)
        return product(o_BSHK.reshape(batch, length, width), self.output, self.arithmetic)

    def _last(self, inputs: Tensor, before: Tensor | None) -> Tensor:
        """The last W - 1 inputs, zeros before the first."""
        wanted = self.taps.shape[0] - 1
        if before is None:
            before = inputs.new_zeros(inputs.shape[0], wanted, inputs.shape[2])
        return torch.cat((before, inputs), 1)[:, inputs.shape[1] :]
