"""A causal convolution over a few tokens, channel by channel: y_t = sum over w of tap_w x_{t-w}.

Letters: B batch, S sequence, W taps, X channels.
"""

from torch import Tensor, cat
from torch.nn.functional import pad


def short_conv(x_BSX: Tensor, tap_WX: Tensor, before_BPX: Tensor | None = None) -> Tensor:
    """y_BSX; the last tap is a token's own. `before_BPX`: the W - 1 inputs before these, zeros where there are none. A sum of
    shifted products, so that its order is fixed everywhere."""
    taps, length = tap_WX.shape[0], x_BSX.shape[1]
    x_BSX = pad(x_BSX, (0, 0, taps - 1, 0)) if before_BPX is None else cat((before_BPX, x_BSX), 1)
    y_BSX = x_BSX[:, taps - 1 :] * tap_WX[-1]
    for back in range(1, taps):
        y_BSX = y_BSX + x_BSX[:, taps - 1 - back : taps - 1 - back + length] * tap_WX[taps - 1 - back]
    return y_BSX
