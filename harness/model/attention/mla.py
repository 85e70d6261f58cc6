"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads are made of one latent vector a
token, which is all that decoding keeps, beside one rotated key that heads share.

    [c ; k_r] = x W_down, c' = RMSNorm(c)         k_h = [c' W_key,h ; RoPE(k_r)]     v_h = c' W_value,h
    q_h = x W_query,h = [q_n ; RoPE(q_r)]          softmax(q_h k_h^T / sqrt(A)) v_h

Decoding multiplies the other way round: q_n W_key,h^T meets c' itself, and W_value,h what the probabilities make of it. The
latent is normed and heads are not, which would forbid that: `model.qk_norm` says nothing here. Head widths of queries, keys and
values are equal, for which kernels are made.

Letters: B batch, S sequence, T tokens kept, D width, H heads, A head width, N of it without positions, R of it rotated, C rank.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harness.model.attention import Attention
from harness.model.norm import rms_norm
from harness.model.part import Own
from harness.model.product import operand, product
from harness.model.rotary import Rotary, rotate
from harness.model.softmax_attention import attend, score_peaks, score_weights
from harness.model.where import Where
from harness.plan.schema import Model
from kernels import Arithmetic


class Latent(Attention):
    OWN = {
        "query": Own("dense"), "down": Own("dense"), "key_up": Own("dense"), "value_up": Own("dense"),
        "output": Own("dense", "output"),
    }  # fmt: skip

    def __init__(self, model: Model, keys: Any, arithmetic: Arithmetic):
        super().__init__(model, keys, arithmetic)
        self.heads, self.head, self.rank, self.rotary = model.heads, model.width // model.heads, keys.rank, keys.rotary
        self.arithmetic, self.length, width = arithmetic, model.sequence_length, model.width
        self.query = nn.Parameter(torch.empty(width, width))
        self.down = nn.Parameter(torch.empty(width, keys.rank + keys.rotary))
        self.key_up = nn.Parameter(torch.empty(keys.rank, model.heads * (self.head - keys.rotary)))
        self.value_up = nn.Parameter(torch.empty(keys.rank, width))
        self.output = nn.Parameter(torch.empty(width, width))

    @staticmethod
    def shared(model: Model, keys: Any) -> nn.Module:
        return Rotary(model, keys.rotary)

    def flops(self) -> int:
        return 6 * self.query.shape[1] * self.length

    def cache_values(self) -> int:
        return self.rank + self.rotary

    def forward(self, x_BSD: Tensor, where: Where) -> Tensor:
        batch, length, _ = x_BSD.shape
        q_n, q_r, c, k_r = self._made(x_BSD, where)
        if where.cache is not None:
            c, k_r = where.cache.extend(self, c, k_r)
            if length == 1:
                mixed_BSHA = self._absorbed(q_n, q_r, c, k_r)
                return product(mixed_BSHA.flatten(2), self.output, self.arithmetic)
        v = product(c, self.value_up, self.arithmetic).view(batch, c.shape[1], self.heads, self.head)
        k = self._keys(c, k_r)
        q, v = operand(torch.cat((q_n, q_r), -1), self.arithmetic), operand(v, self.arithmetic)
        mixed_BSHA = attend(q, k, v, where.shared, self.arithmetic, self.backend)
        return product(mixed_BSHA.reshape(batch, length, -1), self.output, self.arithmetic)

    def _made(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q_BSHN and q_BSHR in fp32; the latent c_BSC and the shared key k_BSR as operands."""
        batch, length, _ = x_BSD.shape
        cos, sin = (t[..., :length, :] for t in where.shared[:2])
        q = product(x_BSD, self.query, self.arithmetic).float().view(batch, length, self.heads, self.head)
        q_n, q_r = q.split((self.head - self.rotary, self.rotary), -1)
        q_r = rotate(q_r, cos, sin)
        c, k_r = product(x_BSD, self.down, self.arithmetic).float().split((self.rank, self.rotary), -1)
        c, k_r = rms_norm(c), rotate(k_r.unsqueeze(2), cos, sin).squeeze(2)
        return q_n, q_r, operand(c, self.arithmetic), operand(k_r, self.arithmetic)

    def _keys(self, c_BTC: Tensor, k_BTR: Tensor) -> Tensor:
        """k_BTHA of every head."""
        k_n = product(c_BTC, self.key_up, self.arithmetic).view(*c_BTC.shape[:2], self.heads, -1)
        return torch.cat((operand(k_n, self.arithmetic), k_BTR.unsqueeze(2).expand(-1, -1, self.heads, -1)), -1)

    def _operands(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Tensor]:
        """q_BSHA and k_BSHA as the scores take them."""
        q_n, q_r, c, k_r = self._made(x_BSD, where)
        return operand(torch.cat((q_n, q_r), -1), self.arithmetic), self._keys(c, k_r)

    def peaks(self, x_BSD: Tensor, where: Where) -> Tensor:
        return score_peaks(*self._operands(x_BSD, where), where)

    def weights(self, x_BSD: Tensor, where: Where) -> Tensor:
        return score_weights(*self._operands(x_BSD, where), where)

    def shrink(self, factor_H: Tensor) -> None:
        """What is without positions half by the queries and half by the keys; the rotated key is of all heads, so that there
        the queries take all of it (Kimi K2, arXiv 2507.20534)."""
        root_H1, query_DHA = factor_H.sqrt().unsqueeze(1), self.query.view(-1, self.heads, self.head)
        query_DHA[..., : self.head - self.rotary].mul_(root_H1)
        query_DHA[..., self.head - self.rotary :].mul_(factor_H.unsqueeze(1))
        self.key_up.view(self.rank, self.heads, -1).mul_(root_H1)

    def _absorbed(self, q_n: Tensor, q_r: Tensor, c_BTC: Tensor, k_BTR: Tensor) -> Tensor:
        """(B, 1, H, A) of a token that sees all that is kept, without the keys and values of heads."""
        c_BTC, k_BTR = c_BTC.float(), k_BTR.float()
        key_CHN = self.key_up.float().view(self.rank, self.heads, -1)
        value_CHA = self.value_up.float().view(self.rank, self.heads, self.head)
        q_BSHC = torch.einsum("bshn,chn->bshc", q_n, key_CHN)
        score = torch.einsum("bshc,btc->bsht", q_BSHC, c_BTC) + torch.einsum("bshr,btr->bsht", q_r, k_BTR)
        probability = torch.softmax(score * self.head**-0.5, -1)
        return torch.einsum("bshc,cha->bsha", torch.einsum("bsht,btc->bshc", probability, c_BTC), value_CHA)


PART = Latent
