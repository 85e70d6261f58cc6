"""Engram (DeepSeek, arXiv 2601.07372): hashed tables of n-grams, read by several heads, and a gate that asks the stream whether
what was found fits.

    e = rows of the 2-grams .. n-grams that end here, one for each of `heads` hashes, side by side
    k = e W_k    v = e W_v    s = <RMSNorm(k), RMSNorm(x)> / sqrt(D)    u = sigmoid(sign(s) sqrt(|s|)) v
    x <- x + u + SiLU(conv(RMSNorm(u)))         conv over `taps` tokens, 3 apart, starts at 0

in the layers that the plan names. A hash XORs each token times an odd number of its place, layer and head, modulo a prime of
the head's own. An n-gram that reaches before the row or its document has the row of what is there alone. Tables start at 0.

Otherwise than published: there the odd numbers are of the place and layer alone, so that heads tell n-grams apart by their
primes only; what is before the row is a token of its own; norms have weights; and tokens are first made alike (case, accents).

Letters: B batch, S sequence, D width, H heads of all orders, C columns of a row, N rows.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, silu

from harness.model.earlier import earlier_tokens
from harness.model.memory import InBlock, Memory
from harness.model.norm import rms_norm
from harness.model.part import Own
from harness.model.short_conv import ShortConv
from harness.model.where import Where
from harness.plan.parts.memory.engram import factors_of, rows_of

if TYPE_CHECKING:
    from harness.model.attention import Attention
    from harness.plan.schema import Model

LEAST = 1e-6  # of |s|, whose root has no gradient at 0
DILATION = 3


class Engram(Memory):
    OWN: dict[str, Own] = {}
    CANNOT = frozenset({"packed rows"})

    def __init__(self, model: "Model", keys: Any):
        super().__init__(model, keys)
        self.orders = range(2, keys.order + 1)
        self.rows = {layer: rows_of(keys, layer) for layer in keys.layers}  # of each head
        for layer, rows in self.rows.items():
            name = f"table_{layer}"
            self.register_parameter(name, nn.Parameter(torch.empty(sum(rows), keys.columns)))
            self.OWN = self.OWN | {name: Own("table", "zero")}
            with torch.device("cpu"):
                self.register_buffer(f"factor_{layer}", torch.tensor(factors_of(keys, layer)), persistent=False)

    def in_block(self, layer: int, attention: "Attention", feedforward: nn.Module) -> "EngramInBlock | None":
        if layer not in self.keys.layers:
            return None
        return EngramInBlock(len(self.rows[layer]) * self.keys.columns, self.shape.width, self.keys.taps)

    def unread(self) -> int:
        touched = len(self.orders) * self.keys.heads * self.keys.columns
        return sum(table.numel() - touched for table in self.parameters())

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, dict[int, Tensor]]:
        tokens = [where.token_BS, *earlier_tokens(where, self.keys.order - 1, self)]
        return x_BSD, {layer: self._looked_up(layer, tokens) for layer in self.keys.layers}

    def _looked_up(self, layer: int, tokens: list[Tensor]) -> Tensor:
        """(B, S, H C). A token that is not there has no part in the hash."""
        factor_HN, rows, first = getattr(self, f"factor_{layer}"), [], 0
        for head, size in enumerate(self.rows[layer]):
            order = self.orders[head // self.keys.heads]
            mixed = tokens[0] * factor_HN[head, 0]
            for back in range(1, order):
                mixed = mixed ^ ((tokens[back] + 1) * factor_HN[head, back])
            rows.append(mixed % size + first)
            first += size
        return embedding(torch.stack(rows, -1), getattr(self, f"table_{layer}")).flatten(2)

    def of_layer(self, found: dict[int, Tensor], layer: int) -> Tensor | None:
        return found.get(layer)


class EngramInBlock(InBlock):
    OWN = {"key": Own("dense"), "value": Own("dense")}

    def __init__(self, read: int, width: int, taps: int):
        super().__init__()
        self.key, self.value = (nn.Parameter(torch.empty(read, width)) for _ in range(2))
        self.conv = ShortConv(width, taps, DILATION, silent=True)

    def kept_bytes(self) -> int:
        """A token's, in fp32: what was read and its gradient, keys and values. Norms and gates are computed anew where a block
        is compiled; what the convolution keeps is its own."""
        return 4 * (2 * self.key.shape[0] + 2 * self.key.shape[1])

    def says(self, x_BSD: Tensor, where: Where) -> Tensor:
        e_BSR = where.recalled["engram"]
        score = (rms_norm(e_BSR @ self.key) * rms_norm(x_BSD)).sum(-1, keepdim=True) / math.sqrt(x_BSD.shape[-1])
        gate = torch.sigmoid(score.sign() * score.abs().clamp(min=LEAST).sqrt())
        u_BSD = gate * (e_BSR @ self.value)
        return u_BSD + silu(self.conv(rms_norm(u_BSD), where))


PART = Engram
