"""A table of bigrams (modded-nanogpt, nanochat): each pair of a token and the one before it has a row, which is added to the
stream before every block, weighed by a number of the block.

    e_t = table[row(token_{t-1}, token_t)] W        x <- x + lambda_l e, before block l

Of bytes a pair has its own row, 65,536 of them; of a larger vocabulary pairs share `rows` by a hash, as published:
(36313 token XOR 27191 before) mod rows. A token without one before it adds nothing. The table starts at 0. `columns` fewer than
the width come with a projection W; 0 has a table as wide as the stream, without one.

Letters: B batch, S sequence, D width, V vocabulary, N rows, C columns.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from harness.model.earlier import NONE, earlier_tokens
from harness.model.memory import InBlock, Memory
from harness.model.part import Own
from harness.model.where import Where

if TYPE_CHECKING:
    from harness.model.attention import Attention
    from harness.plan.schema import Model

START = 0.1  # of each block's number
FACTORS = (36313, 27191)


class Bigram(Memory):
    OWN = {"table": Own("table", "zero"), "projection": Own("dense")}
    CANNOT = frozenset({"packed rows"})

    def __init__(self, model: "Model", keys: Any):
        super().__init__(model, keys)
        self.rows = keys.rows or model.vocab_size**2
        self.table = nn.Parameter(torch.empty(self.rows, keys.columns or model.width))
        self.projection = nn.Parameter(torch.empty(keys.columns, model.width)) if keys.columns else None

    def in_block(self, layer: int, attention: "Attention", feedforward: nn.Module) -> "BigramInBlock":
        return BigramInBlock()

    def unread(self) -> int:
        return self.table.numel() - self.table.shape[1]

    def flops(self) -> int:
        return 6 * self.shape.width * self.shape.layers  # the blocks' numbers

    def kept_bytes(self) -> int:
        return 4 * (self.table.shape[1] + self.shape.width) + 8

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Tensor]:
        (before_BS,) = earlier_tokens(where, 1, self)
        there = before_BS != NONE
        e_BSC = embedding(self._row(where.token_BS, before_BS.clamp(min=0)), self.table) * there.unsqueeze(-1)
        return x_BSD, e_BSC if self.projection is None else e_BSC @ self.projection

    def _row(self, token_BS: Tensor, before_BS: Tensor) -> Tensor:
        if self.rows == self.shape.vocab_size**2:
            return before_BS * self.shape.vocab_size + token_BS
        return (FACTORS[0] * token_BS ^ FACTORS[1] * before_BS) % self.rows

    def of_layer(self, found: Tensor, layer: int) -> Tensor:
        return found


class BigramInBlock(InBlock):
    OWN = {"share": Own("scalar", "range", low=START, high=START)}

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.empty(1))

    def says(self, x_BSD: Tensor, where: Where) -> Tensor:
        return self.share * where.recalled["bigram"]


PART = Bigram
