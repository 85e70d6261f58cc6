"""The memories of a language model trained by moe-speedrun, which tell of a few tokens before beside its attention.

A memory is a module of the whole model, which reads the embeddings and looks up its tables; in blocks it has a module of its
own (`InBlock`) with a method for each place where it may act. `found`: what its tables had for the block.

Letters: B batch, S sequence, D width, G heads of keys and values, A head width, U units of a hidden layer, X channels.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, silu
from transformers import PretrainedConfig

from .layers_moe_speedrun import Attention, Dense, Where, before, parameter, product, rms_norm

Found = dict[int, Tensor]  # by layer
FACTORS = (36313, 27191)  # of a pair's hash
DILATION = 3  # of Engram's convolution
LEAST = 1e-6  # of the magnitude of Engram's score


class ShortConv(nn.Module):
    """y_t = sum over w of tap_w x_{t - w dilation}, channel by channel; the last tap is a token's own."""

    def __init__(self, channels: int, taps: int, dilation: int = 1):
        super().__init__()
        self.taps, self.dilation = parameter(taps, channels), dilation

    def forward(self, x_BSX: Tensor, where: Where) -> Tensor:
        y_BSX = x_BSX * self.taps[-1]
        for back in range(1, len(self.taps)):
            y_BSX = y_BSX + before(x_BSX, back * self.dilation, where) * self.taps[-1 - back]
        return y_BSX


class InBlock(nn.Module):
    """Each method leaves alone what it is given, unless a memory says otherwise."""

    def says(self, x_BSD: Tensor, found: Tensor | None, where: Where) -> Tensor | None:
        """What is added to the stream before the block."""
        return None

    def attention_input(self, x_BSD: Tensor, where: Where) -> Tensor:
        return x_BSD

    def heads(
        self, q: Tensor, k: Tensor, v: Tensor, x_BSD: Tensor, found: Tensor | None, where: Where
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What stands in place of q_BSHA, k_BSGA and v_BSGA."""
        return q, k, v

    def feedforward_input(self, x_BSD: Tensor, where: Where) -> Tensor:
        return x_BSD

    def hidden(self, h_BSU: Tensor, where: Where) -> Tensor:
        """What a dense or shared feed-forward is before its activation."""
        return h_BSU


class Memory(nn.Module):
    def __init__(self, config: PretrainedConfig, keys: dict[str, Any]):
        super().__init__()
        self.keys, self.width, self.layers = keys, config.hidden_size, config.num_hidden_layers

    def in_block(self, layer: int, attention: nn.Module, feedforward: nn.Module) -> InBlock | None:
        return None

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Found]:
        """What the stream begins with, and what the tables have."""
        return x_BSD, {}


class Smear(Memory):
    """x_t + share sigmoid(gate . x_t[:channels]) x_{t-1}, of embeddings."""

    def __init__(self, config: PretrainedConfig, keys: dict[str, Any]):
        super().__init__(config, keys)
        self.share, self.gate = parameter(1), parameter(keys["channels"])

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Found]:
        gate_BS = torch.sigmoid((x_BSD[..., : len(self.gate)] * self.gate).sum(-1))
        return x_BSD + (self.share * gate_BS).unsqueeze(-1) * before(x_BSD, 1, where), {}


class Bigram(Memory):
    """A row for each pair of a token and the one before it, or shared by a hash: added before each block, times a share."""

    def __init__(self, config: PretrainedConfig, keys: dict[str, Any]):
        super().__init__(config, keys)
        self.vocab_size, self.rows = config.vocab_size, keys["rows"] or config.vocab_size**2
        self.table = parameter(self.rows, keys["columns"] or self.width)
        self.projection = parameter(keys["columns"], self.width) if keys["columns"] else None

    def in_block(self, layer: int, attention: nn.Module, feedforward: nn.Module) -> InBlock:
        return BigramInBlock()

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Found]:
        token_BS, before_BS = where.token_BS, before(where.token_BS, 1, where, absent=-1)
        there_BS, before_BS = before_BS >= 0, before_BS.clamp(min=0)
        if self.rows == self.vocab_size**2:
            row_BS = before_BS * self.vocab_size + token_BS
        else:
            row_BS = (FACTORS[0] * token_BS ^ FACTORS[1] * before_BS) % self.rows
        found = embedding(row_BS, self.table) * there_BS.unsqueeze(-1)
        found = found.float() if self.projection is None else product(found, self.projection)
        return x_BSD, dict.fromkeys(range(self.layers), found)


class BigramInBlock(InBlock):
    def __init__(self) -> None:
        super().__init__()
        self.share = parameter(1)

    def says(self, x_BSD: Tensor, found: Tensor | None, where: Where) -> Tensor:
        return self.share * found


class Values(Memory):
    """In some layers the values have a row of the token added, times 2 sigmoid(x[:channels] gate) of the head."""

    def __init__(self, config: PretrainedConfig, keys: dict[str, Any]):
        super().__init__(config, keys)
        self.vocab_size, self.heads = config.vocab_size, config.num_attention_heads
        self.having = [layer for layer in range(self.layers) if (self.layers - 1 - layer) % keys["every"] == 0]

    def in_block(self, layer: int, attention: nn.Module, feedforward: nn.Module) -> InBlock | None:
        if layer not in self.having:
            return None
        served = attention.value.shape[1]
        self.register_parameter(f"table_{layer}", parameter(self.vocab_size, served))
        return ValuesInBlock(self.keys["channels"], served * self.heads // self.width)

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Found]:
        return x_BSD, {layer: embedding(where.token_BS, getattr(self, f"table_{layer}")).float() for layer in self.having}


class ValuesInBlock(InBlock):
    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.gate = parameter(channels, heads)

    def heads(
        self, q: Tensor, k: Tensor, v: Tensor, x_BSD: Tensor, found: Tensor | None, where: Where
    ) -> tuple[Tensor, Tensor, Tensor]:
        gate_BSG = 2 * torch.sigmoid(product(x_BSD[..., : len(self.gate)], self.gate))
        return q, k, v + gate_BSG.unsqueeze(-1) * found.view(v.shape)


class Canon(Memory):
    """Short convolutions of the attention's input (A), queries, keys and values (B), the feed-forward's input (C), and what a
    dense or shared feed-forward is before its activation (D)."""

    def in_block(self, layer: int, attention: nn.Module, feedforward: nn.Module) -> InBlock:
        return CanonInBlock(self.keys, self.width, attention, feedforward)


class CanonInBlock(InBlock):
    def __init__(self, keys: dict[str, Any], width: int, attention: nn.Module, feedforward: nn.Module):
        super().__init__()
        channels = {"A": width, "C": width}
        if isinstance(attention, Attention):
            channels["B"] = sum(w.shape[1] for w in (attention.query, attention.key, attention.value))
        dense = feedforward if isinstance(feedforward, Dense) else feedforward.shared
        if dense is not None:
            channels["D"] = dense.up.shape[1]
        places = [place for place in sorted(keys["places"]) if place in channels]
        self.at = nn.ModuleDict({place: ShortConv(channels[place], keys["taps"]) for place in places})

    def _conv(self, place: str, x_BSX: Tensor, where: Where) -> Tensor:
        return self.at[place](x_BSX, where) if place in self.at else x_BSX

    def attention_input(self, x_BSD: Tensor, where: Where) -> Tensor:
        return self._conv("A", x_BSD, where)

    def heads(
        self, q: Tensor, k: Tensor, v: Tensor, x_BSD: Tensor, found: Tensor | None, where: Where
    ) -> tuple[Tensor, Tensor, Tensor]:
        joined = self._conv("B", torch.cat([t.flatten(2) for t in (q, k, v)], -1), where)
        parts = joined.split([t.shape[2] * t.shape[3] for t in (q, k, v)], -1)
        q, k, v = (part.view(like.shape) for part, like in zip(parts, (q, k, v)))
        return q, k, v

    def feedforward_input(self, x_BSD: Tensor, where: Where) -> Tensor:
        return self._conv("C", x_BSD, where)

    def hidden(self, h_BSU: Tensor, where: Where) -> Tensor:
        return self._conv("D", h_BSU, where)


class Engram(Memory):
    """Rows of the 2-grams and longer ones that end at a token, of each hash. `sizes`: rows of each head's part of the table,
    `factors`: what it multiplies the token and those before it with; both by layer."""

    def __init__(self, config: PretrainedConfig, keys: dict[str, Any]):
        super().__init__(config, keys)
        for layer, sizes in zip(keys["layers"], keys["sizes"]):
            self.register_parameter(f"table_{layer}", parameter(sum(sizes), keys["columns"]))

    def in_block(self, layer: int, attention: nn.Module, feedforward: nn.Module) -> InBlock | None:
        if layer not in self.keys["layers"]:
            return None
        read = (self.keys["order"] - 1) * self.keys["heads"] * self.keys["columns"]
        return EngramInBlock(read, self.width, self.keys["taps"])

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Found]:
        tokens = [where.token_BS]
        tokens += [before(where.token_BS, back, where, absent=-1) + 1 for back in range(1, self.keys["order"])]
        by_layer = zip(self.keys["layers"], self.keys["sizes"], self.keys["factors"])
        return x_BSD, {layer: self._looked_up(layer, sizes, factors, tokens) for layer, sizes, factors in by_layer}

    def _looked_up(self, layer: int, sizes: list[int], factors: list[list[int]], tokens: list[Tensor]) -> Tensor:
        rows, first = [], 0
        for head, size in enumerate(sizes):
            mixed = tokens[0] * factors[head][0]
            for back in range(1, 2 + head // self.keys["heads"]):
                mixed = mixed ^ (tokens[back] * factors[head][back])
            rows.append(mixed % size + first)
            first += size
        return embedding(torch.stack(rows, -1), getattr(self, f"table_{layer}")).flatten(2).float()


class EngramInBlock(InBlock):
    """u = sigmoid(sign(s) sqrt(|s|)) v, s the normed stream's score of the normed key; u + SiLU(conv(RMSNorm(u)))."""

    def __init__(self, read: int, width: int, taps: int):
        super().__init__()
        self.key, self.value, self.conv = parameter(read, width), parameter(read, width), ShortConv(width, taps, DILATION)

    def says(self, x_BSD: Tensor, found: Tensor | None, where: Where) -> Tensor:
        score = (rms_norm(product(found, self.key)) * rms_norm(x_BSD)).sum(-1, keepdim=True) / math.sqrt(x_BSD.shape[-1])
        gate = torch.sigmoid(score.sign() * score.abs().clamp(min=LEAST).sqrt())
        u_BSD = gate * product(found, self.value)
        return u_BSD + silu(self.conv(rms_norm(u_BSD), where))


MEMORIES = {"smear": Smear, "bigram": Bigram, "value_embeddings": Values, "canon": Canon, "engram": Engram}
