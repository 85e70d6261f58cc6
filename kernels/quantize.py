"""Tensors in a low-precision format: blocks, scales, codes.

`nvfp4` (arXiv 2509.25149), in fp32 and in this order:

    S = 448 * 6 / amax_tensor          c = S * fp32(1/6)
    s = E4M3(min(amax_block * c, 448))     code = E2M1(v * (S / s)), 0 where s = 0     decoded = code * s / S

A tensor of zeros has S = 1. S is 2^118 at most, so that S / s stays finite (s is at least 2^-9): a cap on tensors below
8.1e-33, of which blocks below 1.8e-38 become 0. `fp8`: s = amax_block / 448, code = E4M3(v / s), 0 where s = 0,
decoded = code * s.

`mxfp8` and `mxfp4` (OCP Microscaling Formats v1.0, E4M3 and E2M1 in blocks of 32): s is the smallest power of two, 2^-127 to
2^127, with amax_block <= largest * s, so that nothing saturates without a clip (the rounding of arXiv 2506.08027; the
specification's own, down to floor(log2 amax) - floor(log2 largest), lets up to half of an octave saturate); code = v / s
rounded to the element, decoded = code * s. There is no scale of a tensor.

Codes drawn by `noise` are unbiased, E[decoded] = v, but where |v| > 6 s / S (fp8: 448 s): such a value saturates. In nvfp4
that happens without a clip, as s is rounded to the nearest: down by up to 1/17, below 2^-6 by more, from 2^-10 on to 0.

Every product of an E2M1 value and an E4M3 scale is exact in bf16 (at most 2 + 4 significant bits), so code * s is an
exact operand of a bf16 product, and S is applied to its sum. Of an MX block the decoded value itself is one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.formats import E2M1, E4M3, Format
from kernels.precision import FORMATS, MX

ELEMENTS = {"fp8": E4M3, "nvfp4": E2M1, "mxfp8": E4M3, "mxfp4": E2M1}

SIXTH = float(torch.tensor(1.0) / 6)
_MOST = 2.0**118
_MANTISSA = 0x7FFFFF


def nvfp4_tensor_scale(amax: Tensor) -> Tensor:
    """S of a tensor's largest magnitude, fp32. A tensor is divided: torch takes number / tensor as number * (1 / tensor)."""
    return torch.where(amax == 0, 1.0, (torch.full_like(amax, 448.0 * 6.0) / amax).clamp(max=_MOST))


def nvfp4_block_scale(amax: Tensor, tensor_scale: Tensor) -> Tensor:
    """s of blocks' largest magnitudes: E4M3 values as fp32."""
    return E4M3.round((amax * (tensor_scale * SIXTH)).clamp(max=448.0), None)


def nvfp4_round(
    x: Tensor, block_scale: Tensor, tensor_scale: Tensor, noise: Tensor | None = None, dither: Tensor | None = None
) -> Tensor:
    """The E2M1 values of fp32 `x` whose scales broadcast to it; `dither` is added before."""
    scaled = torch.where(block_scale == 0, 0.0, x * (tensor_scale / block_scale))
    return E2M1.round(scaled if dither is None else scaled + dither, noise)


def fp8_scale(amax: Tensor) -> Tensor:
    """Divided by a tensor: CUDA takes tensor / number as tensor * (1 / number)."""
    return amax / torch.full_like(amax, 448.0)


def fp8_round(x: Tensor, scale: Tensor, noise: Tensor | None = None) -> Tensor:
    """The E4M3 values of fp32 `x` whose scale broadcasts to it."""
    return E4M3.round(torch.where(scale == 0, 0.0, x / scale), noise)


def mx_scale(amax: Tensor, element: Format) -> tuple[Tensor, Tensor]:
    """s of blocks' largest magnitudes (fp32), and 1 / s: powers of two; NaN of what is not finite."""
    bits, largest = amax.view(torch.int32), int(torch.tensor(element.largest).view(torch.int32))
    above = (bits & _MANTISSA) > (largest & _MANTISSA)
    code = ((bits >> 23) - (largest >> 23) + 127 + above).clamp(0, 253)
    scale = torch.where(code == 0, 1 << 22, code << 23).view(torch.float32)
    inverse = ((254 - code) << 23).view(torch.float32)
    finite = amax.isfinite()
    return torch.where(finite, scale, torch.nan), torch.where(finite, inverse, torch.nan)


def mx_round(x: Tensor, inverse: Tensor, element: Format, noise: Tensor | None = None, dither: Tensor | None = None) -> Tensor:
    """The element's values of fp32 `x` whose inverse scales broadcast to it: the product is exact. `dither` is added before
    it is rounded."""
    return element.round(x * inverse if dither is None else x * inverse + dither, noise)


@dataclass(frozen=True)
class Quantized:
    """`codes` uint8 of the tensor's shape, one a byte; `block_scale` of the shape of the grid of blocks (E4M3 for nvfp4, E8M0
    for MX, fp32 for fp8); `tensor_scale` fp32 0-dim, which nvfp4 divides by (None of others)."""

    format: str
    codes: Tensor
    block_scale: Tensor
    tensor_scale: Tensor | None
    block: tuple[int, ...]

    def dequantize(self) -> Tensor:
        """fp32."""
        decoded = ELEMENTS[self.format].decode(self.codes) * _spread(self.block_scale.float(), self.block)
        return decoded if self.tensor_scale is None else decoded / self.tensor_scale


def quantize(
    x: Tensor, format: str, axis: int = -1, *, square: bool = False, clip: float = 1.0, noise: Tensor | None = None,
    dither: Tensor | None = None,
) -> Quantized:  # fmt: skip
    """`x` (floating point, any shape) in blocks along `axis`, or with `square` in squares of the last two axes.

    `noise` fp32 in [0, 1) of x's shape: stochastic rounding, else nearest. `clip`: see `kernels.precision`. `dither` fp32 of
    x's shape: added to the values of nvfp4 and mxfp4 before they are rounded; no scale depends on it.

    Raises:
        ValueError: an unknown format, blocks that do not divide an axis, values that are not finite.
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r}: known are {', '.join(FORMATS)}")
    if dither is not None and ELEMENTS[format] is not E2M1:
        raise ValueError(f"{format} is not dithered: only what has E2M1 values is")
    length = FORMATS[format]
    block = [1] * x.ndim
    for at in (-1, -2) if square else (axis,):
        if x.shape[at] % length:
            raise ValueError(f"{format} has blocks of {length}, which do not divide axis {at} of {tuple(x.shape)}")
        block[at] = length
    x = x.float()
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{int((~torch.isfinite(x)).sum())} of {x.numel()} values to quantize are not finite")
    amax = block_amax(x, tuple(block))
    if format == "fp8":
        scale = fp8_scale(amax * clip)
        return Quantized(format, E4M3.encode(fp8_round(x, _spread(scale, block), noise)), scale, None, tuple(block))
    if format in MX:
        element = ELEMENTS[format]
        scale, inverse = mx_scale(amax * clip, element)
        codes = element.encode(mx_round(x, _spread(inverse, block), element, noise, dither))
        return Quantized(format, codes, scale.to(torch.float8_e8m0fnu), None, tuple(block))
    tensor_scale = nvfp4_tensor_scale(amax.max() if amax.numel() else amax.new_zeros(()))
    scale = nvfp4_block_scale(amax * clip, tensor_scale)
    codes = E2M1.encode(nvfp4_round(x, _spread(scale, block), tensor_scale, noise, dither))
    return Quantized(format, codes, scale.to(torch.float8_e4m3fn), tensor_scale, tuple(block))


def recoded(x: Tensor, like: Quantized) -> Tensor:
    """uint8 codes that `x` (of its shape) would have under the scales of another tensor, rounded to the nearest."""
    element, scale = ELEMENTS[like.format], _spread(like.block_scale.float(), like.block)
    if like.format == "fp8":
        return element.encode(fp8_round(x.float(), scale))
    if like.format in MX:
        return element.encode(mx_round(x.float(), 1 / scale, element))
    return element.encode(nvfp4_round(x.float(), scale, like.tensor_scale))


def block_amax(x: Tensor, block: tuple[int, ...]) -> Tensor:
    """The largest magnitude of every block of `x`, in the shape of the grid."""
    shape = [part for size, length in zip(x.shape, block) for part in (size // length, length)]
    return x.abs().view(shape).amax(dim=tuple(range(1, 2 * x.ndim, 2)))


def _spread(scale: Tensor, block: tuple[int, ...]) -> Tensor:
    """A grid's values repeated over their blocks."""
    for at, length in enumerate(block):
        if length > 1:
            scale = scale.repeat_interleave(length, dim=at)
    return scale
