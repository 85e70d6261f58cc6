"""Native sparse attention (arXiv 2502.11089): three looks at the past, each weighed by a gate of the token.

- compression: one key and value a block, the mean of its tokens', visible once the block is entirely past;
- selection: the tokens of a few whole blocks: the first, the token's own, and those that compression's probabilities, summed
  over heads, weigh most. Ties go to the earlier block, and nothing is differentiated through the choice;
- a window of the last tokens.

    y = sum over looks c of sigmoid(x W_c) softmax(q k_c^T / sqrt(A)) v_c

Written with masks over all of S x S, three times: it shows what is learned, and saves nothing. Keys and values are shared by
the looks. A token before the first whole block has nothing compressed: that look says 0.

Letters: B batch, S sequence, H heads, A head width, N blocks, L tokens of a block.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from harness.model.attention import Attention
from harness.model.part import Own
from harness.model.product import operand, product
from harness.model.rotary import Rotary
from harness.model.softmax_attention import in_heads
from harness.model.where import Where
from harness.plan.schema import Model
from kernels import Arithmetic

LOOKS = 3


class Sparse(Attention):
    OWN = {
        "query": Own("dense"), "key": Own("dense"), "value": Own("dense"), "output": Own("dense", "output"),
        "gate": Own("scalar", "zero"),
    }  # fmt: skip
    CANNOT = frozenset({"document masks", "packed rows", "decoding"})

    def __init__(self, model: Model, keys: Any, arithmetic: Arithmetic):
        super().__init__(model, keys, arithmetic)
        self.heads, self.qk_norm, self.arithmetic, self.length = model.heads, model.qk_norm, arithmetic, model.sequence_length
        self.block, self.chosen, self.window = keys.block, keys.chosen, keys.window
        for name in ("query", "key", "value", "output"):
            self.register_parameter(name, nn.Parameter(torch.empty(model.width, model.width)))
        self.gate = nn.Parameter(torch.empty(model.width, LOOKS * model.heads))

    @staticmethod
    def shared(model: Model, keys: Any) -> nn.Module:
        return Rotary(model)

    def flops(self) -> int:
        """What the looks see, not the masked products: 12 * width * the mean number of keys that are seen; and the gates. Of
        its own block a token sees the keys up to itself, and before there are `chosen` blocks it sees those that there are."""
        block, others, blocks = self.block, self.chosen - 1, self.length // self.block
        compressed = (blocks - 1) / 2 + 1 / block
        selected = (block + 1) / 2 + block * others * (1 - self.chosen / (2 * blocks))
        near = self.window - self.window * (self.window - 1) / 2 / self.length
        return round(12 * self.query.shape[1] * (compressed + selected + near)) + 6 * self.gate.numel()

    def cache_values(self) -> int:
        """Keys and values, and those of blocks."""
        width = self.key.shape[1] + self.value.shape[1]
        return width + width // self.block

    def forward(self, x_BSD: Tensor, where: Where) -> Tensor:
        batch, length, width = x_BSD.shape
        weights = (self.query, self.key, self.value)
        q, k, v = in_heads(x_BSD, weights, self.heads, where, self.arithmetic, self.qk_norm, self.memories)
        q, k, v = (operand(t, self.arithmetic).transpose(1, 2) for t in (q, k, v))
        compressed, weight_BSN = self._compressed(q, k, v)
        at = torch.arange(length, device=q.device)
        causal = at[:, None] >= at
        selected = scaled_dot_product_attention(q, k, v, attn_mask=(self._selected(weight_BSN, length) & causal).unsqueeze(1))
        near = scaled_dot_product_attention(q, k, v, attn_mask=causal & (at[:, None] - at < self.window))
        gate = torch.sigmoid(x_BSD.float() @ self.gate).view(batch, length, LOOKS, self.heads).permute(2, 0, 3, 1).unsqueeze(-1)
        mixed = sum(g * look.float() for g, look in zip(gate, (compressed, selected, near)))
        return product(mixed.transpose(1, 2).reshape(batch, length, width), self.output, self.arithmetic)

    def _compressed(self, q_BHSA: Tensor, k_BHSA: Tensor, v_BHSA: Tensor) -> tuple[Tensor, Tensor]:
        """The look (B, H, S, A), and probabilities of whole blocks (B, S, N), summed over heads, outside the gradient."""
        length, width = q_BHSA.shape[2:]
        blocks = length // self.block
        if not blocks:
            return torch.zeros_like(q_BHSA), q_BHSA.new_zeros(q_BHSA.shape[0], length, 0, dtype=torch.float32)
        k, v = (t[:, :, : blocks * self.block].unflatten(2, (blocks, self.block)).float().mean(3) for t in (k_BHSA, v_BHSA))
        at = torch.arange(length, device=q_BHSA.device)
        past_SN = (torch.arange(blocks, device=at.device) + 1) * self.block <= at[:, None] + 1
        score = (q_BHSA.float() @ k.mT) * width**-0.5
        score = score.masked_fill(~past_SN, -torch.inf).masked_fill(~past_SN.any(1, keepdim=True), 0.0)  # no row of -inf alone
        probability = torch.softmax(score, -1) * past_SN
        return (probability @ v).to(q_BHSA.dtype), probability.detach().sum(1)

    def _selected(self, weight_BSN: Tensor, length: int) -> Tensor:
        """bool (B, S, S): the tokens of the blocks that each token has chosen, or would have to come."""
        blocks = -(-length // self.block)
        own_S = torch.arange(length, device=weight_BSN.device) // self.block
        number_N = torch.arange(blocks, device=own_S.device)
        weight_BSN = torch.nn.functional.pad(weight_BSN, (0, blocks - weight_BSN.shape[2]))
        always = (number_N == 0) | (number_N == own_S[:, None])
        weight_BSN = weight_BSN.masked_fill(always, torch.inf).masked_fill(number_N > own_S[:, None], -1.0)
        order = weight_BSN.argsort(dim=-1, descending=True, stable=True)[..., : self.chosen]
        chosen_BSN = (order.unsqueeze(-1) == number_N).any(2)
        return chosen_BSN.repeat_interleave(self.block, 2)[..., :length]


PART = Sparse
