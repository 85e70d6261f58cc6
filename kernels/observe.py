"""What quantization does to tensors, written down while somebody listens; costs one comparison otherwise.

with observed() as found:
    model(...)
found[layer]["input"]["snr_db"]
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from kernels.precision import Quantization
from kernels.quantize import quantize, recoded

SAMPLE = 1 << 16  # values that figures are taken of, about: every n-th entry of the first axis

_ROUNDING = 2.0**-22  # of a limit, the fp32 product of a scale that was divided for: not what saturates

Found = dict[int, dict[str, dict[str, float]]]
_open: list[Found] = []


@contextmanager
def observed() -> Iterator[Found]:
    """Collects, by layer and tensor, the figures of `figures`; a tensor that is quantized again replaces its last
    figures."""
    _open.append({})
    try:
        yield _open[-1]
    finally:
        _open.pop()


def listening() -> bool:
    return bool(_open)


def note(layer: int, tensor: str, x: Tensor, decoded: Tensor, limit: Tensor) -> None:
    """For whoever listens; shapes as in `figures`."""
    stride = max(1, x.numel() // SAMPLE)
    stride = min(stride, x.shape[0])
    x, decoded = x[::stride], decoded[::stride]
    limit = limit[::stride] if limit.shape[0] > 1 else limit
    _open[-1].setdefault(layer, {})[tensor] = figures(x, decoded, limit)


@torch.no_grad()
def figures(x: Tensor, decoded: Tensor, limit: Tensor) -> dict[str, float]:
    """How a tensor is after quantization beside before it; `limit` broadcasts to it and holds the largest magnitude that its
    block can decode to.

    `snr_db`: signal over error power, NaN for a tensor of zeros. `underflow`: share of the nonzero values that became 0.
    `saturation`: share above `limit`. `smallest`: the smallest magnitude told apart from 0, which is 0 where nothing
    was."""
    x, decoded = x.float(), decoded.float()
    size, found = x.abs(), decoded.abs()
    signal, error = (float(t.double().square().sum()) for t in (x, x - decoded))
    nonzero = size > 0
    return {
        "snr_db": 10 * math.log10(signal / error) if signal and error else math.inf if signal else math.nan,
        "underflow": float((nonzero & (found == 0)).sum()) / max(1, int(nonzero.sum())),
        "saturation": float((size > limit * (1 + _ROUNDING)).sum()) / size.numel(),
        "smallest": float(found[found > 0].min()) if bool((found > 0).any()) else 0.0,
    }


def some_experts(w_EIO: Tensor) -> Tensor:
    """Every n-th expert, where there are many values: what `flipped` is taken of."""
    return w_EIO[:: min(max(1, w_EIO.numel() // (4 * SAMPLE)), w_EIO.shape[0])]


@torch.no_grad()
def flipped(before_EIO: Tensor, after_EIO: Tensor, dials: Quantization) -> float:
    """The share of codes that an update changed. Of some experts of a layer it is their share under a tensor scale of
    their own, or of each its own."""
    return causes(before_EIO, after_EIO, dials)["all"]


@torch.no_grad()
def causes(before_EIO: Tensor, after_EIO: Tensor, dials: Quantization, jitter_EIO: Tensor | None = None) -> dict[str, float]:
    """`all`: `flipped`. Of it `weight`: the share of codes that the update would have changed under the scales of before, and
    `scale`: the others, whose block's or tensor's scale moved. Beside it, with a dither, `dither`: the share of codes that it
    exchanges for one step."""
    square, at_once = dials.weight_blocks == "2d", 1 if dials.by_expert else len(before_EIO)
    changed, moved, dithered = 0, 0, 0
    for at in range(0, len(before_EIO), at_once):
        pair = before_EIO[at : at + at_once], after_EIO[at : at + at_once]
        before, after = (quantize(w, dials.format, 1, square=square, clip=dials.clip) for w in pair)
        differs = before.codes != after.codes
        changed += int(differs.sum())
        moved += int((differs & (recoded(pair[1], before) != before.codes)).sum())
        if jitter_EIO is not None:
            jitter = jitter_EIO[at : at + at_once]
            drawn = quantize(pair[1], dials.format, 1, square=square, clip=dials.clip, dither=jitter)
            dithered += int((drawn.codes != after.codes).sum())
    values = before_EIO.numel()
    found = {"all": changed / values, "weight": moved / values, "scale": (changed - moved) / values}
    return found | ({} if jitter_EIO is None else {"dither": dithered / values})
