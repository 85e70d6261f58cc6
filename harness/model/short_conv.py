"""A causal convolution over a few tokens, channel by channel: y_t = sum over w of tap_w x_{t-w}.

Letters: B batch, S sequence, W taps, X channels, P = (W - 1) * dilation tokens before.
"""

import torch
from torch import Tensor, cat, nn
from torch.nn.functional import pad

from harness.model.part import Own, Part
from harness.model.where import Where


def short_conv(
    x_BSX: Tensor, tap_WX: Tensor, before_BPX: Tensor | None = None, dilation: int = 1, document_BS: Tensor | None = None
) -> Tensor:
    """y_BSX; the last tap is a token's own. `before_BPX`: the inputs before these, zeros where there are none. `document_BS`:
    what is of another document is 0. A sum of shifted products, so that its order is fixed everywhere."""
    taps, length = tap_WX.shape[0], x_BSX.shape[1]
    reach = (taps - 1) * dilation
    x_BSX = pad(x_BSX, (0, 0, reach, 0)) if before_BPX is None else cat((before_BPX, x_BSX), 1)
    y_BSX = x_BSX[:, reach:] * tap_WX[-1]
    for back in range(1, taps):
        first = reach - back * dilation
        shifted = x_BSX[:, first : first + length] * tap_WX[taps - 1 - back]
        if document_BS is not None:
            shifted = shifted * same_document(document_BS, back * dilation).unsqueeze(-1)
        y_BSX = y_BSX + shifted
    return y_BSX


def same_document(document_BS: Tensor, back: int) -> Tensor:
    """bool (B, S): whether the token `back` places before is there and of the same document."""
    return pad(document_BS, (back, 0), value=-1)[:, : document_BS.shape[1]] == document_BS


class ShortConv(Part):
    """With the tokens of a cache before it, and within documents. It starts as what leaves its input alone, or as nothing."""

    OWN = {"taps": Own("scalar", "tap")}
    CANNOT = frozenset({"packed rows"})

    def __init__(self, channels: int, taps: int, dilation: int = 1, silent: bool = False):
        super().__init__()
        self.dilation, self.reach = dilation, (taps - 1) * dilation
        self.taps = nn.Parameter(torch.empty(taps, channels))
        if silent:
            self.OWN = {"taps": Own("scalar", "zero")}

    def flops(self) -> int:
        return 6 * self.taps.numel()

    def kept_bytes(self) -> int:
        """A token's, in fp32: the input, and what each tap is multiplied by."""
        return 8 * self.taps.shape[1]

    def forward(self, x_BSX: Tensor, where: Where) -> Tensor:
        before_BPX = None
        if where.cache is not None:
            kept = where.cache.get(self)
            before_BPX = x_BSX.new_zeros(x_BSX.shape[0], self.reach, x_BSX.shape[2]) if kept is None else kept[0]
            where.cache.put(self, cat((before_BPX, x_BSX), 1)[:, x_BSX.shape[1] :])
        return short_conv(x_BSX, self.taps, before_BPX, self.dilation, where.document_BS)
