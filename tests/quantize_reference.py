"""Quantization in numpy float32, one operation at a time in the stated order, and the check against it."""

import itertools
from fractions import Fraction
from functools import partial

import format_values
import numpy as np
import torch

from kernels.quantize import quantize

F = np.float32
SIXTH = F(1) / F(6)
SCALES = np.array(format_values.E4M3, dtype=F)
LARGEST_S = F(2.0**118)


def nvfp4_reference(x, block, clip=1.0):
    """codes, scales, S, decoded of a numpy fp32 array. Every operation rounds to fp32 on its own."""
    codes, decoded, scales = np.zeros(x.shape, np.uint8), np.zeros_like(x), np.zeros(grid(x, block), F)
    amax = np.abs(x).max()
    with np.errstate(over="ignore"):
        s_enc = F(1) if amax == 0 else min(F(2688) / amax, LARGEST_S)
    c = s_enc * SIXTH
    for at, where in blocks(x, block):
        of_block = np.abs(x[where]).max() * F(clip)
        scale = SCALES[format_values.nearest_codes(min(of_block * c, F(448)), format_values.E4M3)]
        scales[at] = scale
        if scale == 0:
            continue
        ratio = s_enc / scale
        scaled = x[where] * ratio
        assert ratio.dtype == scaled.dtype == F
        magnitude = format_values.nearest_codes(scaled, format_values.E2M1)
        codes[where] = magnitude + 8 * np.signbit(x[where])
        decoded[where] = np.copysign(np.array(format_values.E2M1, dtype=F)[magnitude], x[where]) * scale / s_enc
    return codes, scales, s_enc, decoded


def fp8_reference(x, block, clip=1.0):
    codes, decoded, scales = np.zeros(x.shape, np.uint8), np.zeros_like(x), np.zeros(grid(x, block), F)
    for at, where in blocks(x, block):
        scale = np.abs(x[where]).max() * F(clip) / F(448)
        scales[at] = scale
        if scale == 0:
            continue
        magnitude = format_values.nearest_codes(x[where] / scale, format_values.E4M3)
        codes[where] = magnitude + 128 * np.signbit(x[where])
        decoded[where] = np.copysign(SCALES[magnitude], x[where]) * scale
    return codes, scales, None, decoded


def grid(x, block):
    return tuple(n // length for n, length in zip(x.shape, block))


def blocks(x, block):
    for at in itertools.product(*map(range, grid(x, block))):
        yield at, tuple(slice(i * length, (i + 1) * length) for i, length in zip(at, block))


def mx_reference(x, block, clip, magnitudes, negative):
    """Scales by exact comparison: the smallest power of two that takes a block's largest magnitude to the format's."""
    codes, decoded, scales = np.zeros(x.shape, np.uint8), np.zeros_like(x), np.zeros(grid(x, block), F)
    for at, where in blocks(x, block):
        amax, exponent = Fraction(float(np.abs(x[where]).max() * F(clip))), -127
        while amax > Fraction(magnitudes[-1]) * Fraction(2) ** exponent:
            exponent += 1
        scales[at] = F(2.0**exponent)
        code = format_values.nearest_codes(x[where].astype(np.float64) / 2.0**exponent, magnitudes)
        codes[where] = code + negative * np.signbit(x[where])
        decoded[where] = np.copysign(np.array(magnitudes)[code] * 2.0**exponent, x[where]).astype(F)
    return codes, scales, None, decoded


REFERENCES = {
    "nvfp4": nvfp4_reference,
    "fp8": fp8_reference,
    "mxfp8": partial(mx_reference, magnitudes=format_values.E4M3, negative=128),
    "mxfp4": partial(mx_reference, magnitudes=format_values.E2M1, negative=8),
}
SCALES_IN = {"nvfp4": torch.float8_e4m3fn, "fp8": torch.float32, "mxfp8": torch.float8_e8m0fnu, "mxfp4": torch.float8_e8m0fnu}


def assert_as_reference(x, format, block, clip=1.0, **where):
    found = quantize(x, format, clip=clip, **where)
    codes, scales, s_enc, decoded = REFERENCES[format](x.float().numpy(), block, clip=clip)
    assert found.block == block and found.format == format
    assert found.codes.dtype == torch.uint8 and found.codes.shape == x.shape
    assert found.block_scale.dtype == SCALES_IN[format]
    assert found.block_scale.shape == scales.shape
    np.testing.assert_array_equal(found.block_scale.float().numpy().view(np.int32), scales.view(np.int32))
    if format == "nvfp4":
        assert found.tensor_scale.dtype == torch.float32 and found.tensor_scale.shape == ()
        assert F(found.tensor_scale.item()).view(np.int32) == s_enc.view(np.int32)
    else:
        assert found.tensor_scale is None
    np.testing.assert_array_equal(found.codes.numpy(), codes)
    back = found.dequantize()
    assert back.dtype == torch.float32
    np.testing.assert_array_equal(back.numpy().view(np.int32), decoded.view(np.int32))
    return found


def randn(*shape, seed=0):
    """Rows and columns of very different size, so that blocks have different scales."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=draws)
    return x * torch.exp(torch.randn(shape[:-1] + (1,), generator=draws)) * torch.exp(torch.randn(shape[-1], generator=draws))
