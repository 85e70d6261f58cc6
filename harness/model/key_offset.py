"""Channels of a key that come from the token before: a query that matches them finds the token after a match, so that one layer
can go on with what followed last time (the partial key offset of modded-nanogpt).

Letters: B batch, S sequence, G heads of keys, A head width.
"""

import torch
from torch import Tensor, nn

from harness.model.earlier import one_before
from harness.model.where import Where


class KeyOffset(nn.Module):
    """`channels`: the last ones of each head, which must have no positions. It holds no parameter; a cache keeps these channels
    of the last token for it."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(self, k_BSGA: Tensor, where: Where) -> Tensor:
        """`k_BSGA` with the last channels of the token before, zeros at the start of a row or document."""
        assert where.visible_BSS is None, "a packed row does not say which token is before another"
        own, moved = k_BSGA.split((k_BSGA.shape[-1] - self.channels, self.channels), -1)
        return torch.cat((own, one_before(moved, where, self)), -1)
