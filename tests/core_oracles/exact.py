"""A stand-in model without arithmetic: what it says depends on every bit of what each token sees, and on nothing else.

The score of a target is a 64-bit hash of the set of visible (token, position) pairs and the target, so a wrong position, a
token seen too many or too few, a wrong target or a shifted span changes it, and two ways of scoring that agree are equal, not
close. Seven of eight targets are hits, so language modeling is right now and then.
"""

import torch
from torch import Tensor

_ODD = (-7046029254386353131, -4417276706812531889, -8663945395140668459)  # odd 64-bit multipliers (splitmix64, xxHash)


def _mix(x: Tensor) -> Tensor:
    """A bijection of int64 that spreads every bit; products wrap."""
    for multiplier in _ODD:
        x = x * multiplier
        x = x ^ ((x >> 29) & 0x7FFFFFFFF)
    return x


class ExactModel:
    """A `LanguageModel`; needs no weights."""

    packs = True

    def __init__(self, context: int, vocab_size: int):
        self.context, self.vocab_size = context, vocab_size

    def score(
        self,
        input_BS: Tensor,
        target_BS: Tensor,
        position_BS: Tensor | None = None,
        visible_BSS: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if position_BS is None:
            position_BS = torch.arange(input_BS.shape[1]).expand_as(input_BS)
        assert int(position_BS.max()) < self.context, "a sequence is longer than the context"
        pair_BS = _mix(_mix(input_BS + 1) + position_BS)
        if visible_BSS is None:
            seen_BS = pair_BS.cumsum(1)
        else:
            seen_BS = torch.where(visible_BSS, pair_BS[:, None, :], 0).sum(2)
        hash_BS = _mix(_mix(seen_BS) + target_BS)
        nats_BS = ((hash_BS >> 40) & 0xFFFFFF).float() / 2**20  # [0, 16), exact in fp32
        return nats_BS, (hash_BS & 7) > 0
