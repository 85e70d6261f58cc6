"""Canon layers ("Physics of Language Models", part 4.1): short causal convolutions, y_t = sum over w of tap_w x_{t-w}, where a
block passes things on.

    A   the attention's normed input        C   the feed-forward's normed input, which a router reads too
    B   queries, keys and values            D   what a feed-forward is before its activation

The published form adds the convolution to what it reads; here that is the token's own tap, which starts at 1 and the others at
0. In D there are dense and shared feed-forwards alone: the rows of a routed expert have no neighbours.

Letters: B batch, S sequence, D width, H heads, G heads of keys and values, A head width, U units.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.model.feedforward import Dense
from harness.model.memory import InBlock, Memory
from harness.model.short_conv import ShortConv
from harness.model.where import Where
from harness.plan import parts

if TYPE_CHECKING:
    from harness.model.attention import Attention


class Canon(Memory):
    CANNOT = frozenset({"packed rows"})

    def in_block(self, layer: int, attention: "Attention", feedforward: nn.Module) -> "CanonInBlock":
        heads = parts.gives_heads(self.shape.attentions[layer])
        return CanonInBlock(self.shape.width, self.keys, attention if heads else None, feedforward)


class CanonInBlock(InBlock):
    def __init__(self, width: int, keys: Any, attention: "Attention | None", feedforward: nn.Module):
        super().__init__()
        channels = {"A": width, "C": width}
        if attention is not None:
            channels["B"] = sum(w.shape[1] for w in (attention.query, attention.key, attention.value))
        dense = feedforward if isinstance(feedforward, Dense) else feedforward.shared
        if dense is not None:
            channels["D"] = dense.up.shape[1]
        self.at = nn.ModuleDict(
            {place: ShortConv(channels[place], keys.taps) for place in sorted(keys.places) if place in channels}
        )

    def _conv(self, place: str, x_BSX: Tensor, where: Where) -> Tensor:
        return self.at[place](x_BSX, where) if place in self.at else x_BSX

    def attention_input(self, x_BSD: Tensor, where: Where) -> Tensor:
        return self._conv("A", x_BSD, where)

    def feedforward_input(self, x_BSD: Tensor, where: Where) -> Tensor:
        return self._conv("C", x_BSD, where)

    def heads(self, q: Tensor, k: Tensor, v: Tensor, x_BSD: Tensor, where: Where) -> tuple[Tensor, Tensor, Tensor]:
        if "B" not in self.at:
            return q, k, v
        widths = [t.shape[2] * t.shape[3] for t in (q, k, v)]
        joined = self._conv("B", torch.cat([t.float().flatten(2) for t in (q, k, v)], -1), where)
        q, k, v = (t.view(like.shape) for t, like in zip(joined.split(widths, -1), (q, k, v)))
        return q, k, v

    def hidden(self, h_TU: Tensor, where: Where) -> Tensor:
        if "D" not in self.at:
            return h_TU
        h_BSU = h_TU.float().view(*where.token_BS.shape, -1)
        return self._conv("D", h_BSU, where).view(h_TU.shape)


PART = Canon
