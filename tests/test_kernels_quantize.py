"""Quantized tensors against `quantize_reference`, extremes, refusals, and the exactness of the operands."""

from fractions import Fraction

import format_values
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_reference import F, assert_as_reference, blocks, randn

from kernels.formats import E2M1, E4M3
from kernels.precision import FORMATS, MX
from kernels.quantize import ELEMENTS, block_amax, quantize

LAYOUTS = [  # format, shape, where, block
    ("nvfp4", (5, 48), {}, (1, 16)),
    ("nvfp4", (48, 5), {"axis": 0}, (16, 1)),
    ("nvfp4", (3, 32, 2), {"axis": 1}, (1, 16, 1)),
    ("nvfp4", (3, 32, 2), {"axis": -2}, (1, 16, 1)),
    ("nvfp4", (64,), {}, (16,)),
    ("nvfp4", (32, 48), {"square": True}, (16, 16)),
    ("nvfp4", (2, 32, 16), {"square": True}, (1, 16, 16)),
    ("fp8", (3, 256), {}, (1, 128)),
    ("fp8", (256, 3), {"axis": 0}, (128, 1)),
    ("fp8", (2, 128, 3), {"axis": 1}, (1, 128, 1)),
    ("fp8", (128, 256), {"square": True}, (128, 128)),
    ("fp8", (2, 128, 128), {"square": True}, (1, 128, 128)),
    *[
        (format, *layout)
        for format in MX
        for layout in [
            ((5, 96), {}, (1, 32)), ((96, 5), {"axis": 0}, (32, 1)), ((3, 64, 2), {"axis": 1}, (1, 32, 1)),
            ((2, 64, 32), {"square": True}, (1, 32, 32)),
        ]
    ],
]  # fmt: skip


@pytest.mark.parametrize("clip", [1.0, 0.9, 0.75])
@pytest.mark.parametrize("format, shape, where, block", LAYOUTS)
def test_codes_scales_and_values_are_those_of_the_stated_order_bit_for_bit(format, shape, where, block, clip):
    found = assert_as_reference(randn(*shape), format, block, clip, **where)
    of_block = block_amax(ELEMENTS[format].decode(found.codes), block)
    if format in MX:  # a power of two takes the largest to within an octave
        assert bool((of_block >= ELEMENTS[format].largest / 2).all())
    else:
        assert bool((of_block == ELEMENTS[format].largest).any())


@pytest.mark.parametrize("format, length", FORMATS.items())
def test_bf16_and_strided_tensors_are_quantized_by_their_values(format, length):
    x = randn(length, 2 * length)
    assert_as_reference(x.bfloat16(), format, (1, length))
    assert_as_reference(x.t(), format, (1, length))


@settings(deadline=None, max_examples=60)
@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=32, max_size=32),
    shift=st.integers(-60, 60),
    clip=st.sampled_from([1.0, 0.95, 0.5]),
)
def test_any_finite_block_is_as_the_reference(numbers, shift, clip):
    x = torch.tensor(numbers)
    scaled = torch.ldexp(x.clamp(-1e9, 1e9), torch.tensor(shift))
    for values in (x, scaled):
        for format in ("nvfp4", *MX):
            assert_as_reference(values, format, (FORMATS[format],), clip)


@pytest.mark.parametrize("format", MX)
@pytest.mark.parametrize("exponent", [-126, -100, -1, 0, 8, 100])
def test_an_mx_scale_changes_right_above_the_largest_magnitude_of_its_format(format, exponent):
    """Which no rounding of a quotient may move."""
    edge = torch.tensor(ELEMENTS[format].largest * 2.0**exponent)
    for amax, expected in ((edge, exponent), (edge.nextafter(edge * 2), exponent + 1)):
        assert quantize(amax * torch.ones(32), format).block_scale.float() == 2.0**expected


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("format, length", FORMATS.items())
def test_zeros_decode_to_zeros_with_a_tensor_scale_of_one(format, length, square):
    zeros = torch.zeros(length, 2 * length)
    zeros[0] = -0.0
    found = quantize(zeros, format, square=square)
    least = 2.0**-127 if format in MX else 0  # E8M0 has no zero
    assert bool((found.block_scale.float() == least).all()) and not found.dequantize().any()
    assert format in MX or not found.codes.any()  # MX has no division that would lose the sign of -0
    assert found.tensor_scale == 1 if format == "nvfp4" else found.tensor_scale is None


@pytest.mark.parametrize("format, length", FORMATS.items())
def test_a_block_of_zeros_among_others_decodes_to_zeros(format, length):
    x = randn(3, 2 * length)
    x[1, :length] = 0
    found = assert_as_reference(x, format, (1, length))
    assert found.block_scale[1, 0].float() <= 2.0**-127 < found.block_scale[1, 1].float()


def test_a_block_too_small_for_its_scale_becomes_zeros_and_one_just_large_enough_does_not():
    """With an amax of 1 scales are amax_block * 448: one of 2^-10, half of the smallest, goes to the even code, 0."""
    x = torch.zeros(48)
    x[0] = 1.0
    x[16:32] = -(2.0**-10) / 448
    x[32:] = 2.0**-10 / 448 * 1.001
    found = assert_as_reference(x, "nvfp4", (16,))
    assert found.block_scale.float().tolist() == [448.0, 0.0, 2.0**-9]
    assert not found.codes[16:32].any() and bool((found.codes[32:] == 5).all())  # half the scale that they ask for: 6 / 2


@pytest.mark.parametrize(
    "amax", [2.0**-149, 1e-45, 1e-44, 1e-40, 1e-38, 2e-38, 1e-36, 8e-33, 8.2e-33, 1e-30, 1e30, 3e38, "max"]
)
@pytest.mark.parametrize("format, length", FORMATS.items())
def test_extreme_magnitudes_stay_finite_and_as_the_reference(format, length, amax):
    """Of MX up to 2^127: above, what rounds up decodes to 2^128."""
    if format in MX and (amax == "max" or amax > 2.0**127):
        amax = 1.6e38
    x = randn(2, 2 * length)
    x[0, :8] = 0
    x = x / x.abs().max() * (float(np.finfo(F).max) if amax == "max" else amax)
    decoded = assert_as_reference(x, format, (1, length)).dequantize()
    assert bool(decoded.isfinite().all()) and not decoded[0, :8].any()
    if x.abs().max() > 2e-38:
        assert decoded.abs().max().item() == pytest.approx(x.abs().max().item(), rel=1 / 5 if format == "mxfp4" else 1 / 16)


@pytest.mark.parametrize("format, length", FORMATS.items())
def test_clip_makes_scales_smaller_and_what_lies_above_saturates(format, length):
    x = torch.linspace(0.0, 1.0, length)
    whole, clipped = (quantize(x, format, clip=clip) for clip in (1.0, 0.5))
    assert clipped.block_scale.float() == whole.block_scale.float() / 2
    largest = {"mxfp8": 448 / 512, "mxfp4": 6 / 8}.get(format, 0.5)  # of the power of two that 0.5 asks for
    assert clipped.dequantize().max().item() == pytest.approx(largest)
    assert int((clipped.codes == clipped.codes.max()).sum()) > (1 - largest) * length - 1


@pytest.mark.parametrize("format, length", FORMATS.items())
def test_no_rows_are_quantized_to_no_rows(format, length):
    found = quantize(torch.zeros(0, length), format)
    assert found.codes.shape == (0, length) and found.block_scale.shape == (0, 1) and found.dequantize().shape == (0, length)


@pytest.mark.parametrize(
    "format, shape, where, words",
    [
        ("nvfp4", (4, 24), {}, "nvfp4 has blocks of 16, which do not divide axis -1 of (4, 24)"),
        ("nvfp4", (24, 16), {"axis": 0}, "nvfp4 has blocks of 16, which do not divide axis 0 of (24, 16)"),
        ("nvfp4", (24, 16), {"square": True}, "nvfp4 has blocks of 16, which do not divide axis -2 of (24, 16)"),
        ("fp8", (128, 64), {"square": True}, "fp8 has blocks of 128, which do not divide axis -1 of (128, 64)"),
        ("mxfp4", (4, 48), {}, "mxfp4 has blocks of 32, which do not divide axis -1 of (4, 48)"),
        ("mxfp6", (4, 32), {}, "format='mxfp6': known are fp8, nvfp4, mxfp8, mxfp4"),
    ],
)
def test_blocks_that_do_not_divide_and_unknown_formats_are_refused(format, shape, where, words):
    with pytest.raises(ValueError) as error:
        quantize(torch.zeros(shape), format, **where)
    assert str(error.value) == words


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("format, length", FORMATS.items())
def test_values_that_are_not_finite_are_refused_and_counted(format, length, bad):
    x = torch.zeros(2, length)
    x[1, 3] = x[0, 5] = bad
    with pytest.raises(ValueError) as error:
        quantize(x, format)
    assert str(error.value) == f"2 of {2 * length} values to quantize are not finite"


@pytest.mark.parametrize("format, length", FORMATS.items())
def test_noise_rounds_up_or_down_and_leaves_the_scales(format, length):
    x = randn(2, length)
    nearest, down, up = (
        quantize(x, format, noise=noise) for noise in (None, torch.zeros_like(x), torch.full_like(x, 1 - 2.0**-24))
    )
    assert torch.equal(nearest.block_scale.float(), up.block_scale.float())
    assert torch.equal(nearest.block_scale.float(), down.block_scale.float())
    low, middle, high = (q.dequantize().abs() for q in (down, nearest, up))
    assert bool((low <= middle).all() and (middle <= high).all() and (low < high).float().mean() > 0.9)
    assert bool(((middle == low) | (middle == high)).all())


def test_block_amax_is_the_largest_magnitude_of_every_block():
    x = randn(4, 6, 10)
    found = block_amax(x, (1, 3, 5))
    for at, where in blocks(x.numpy(), (1, 3, 5)):
        assert found[at] == x[where].abs().max()


def test_all_2032_products_of_a_code_and_a_scale_are_exact_in_bf16():
    codes, scales = torch.arange(16, dtype=torch.uint8), torch.arange(127, dtype=torch.uint8)
    found = (E2M1.decode(codes)[:, None] * E4M3.decode(scales)).bfloat16()
    assert found.numel() == 2032
    expected = [
        Fraction(format_values.e2m1_value(code)) * Fraction(format_values.e4m3_value(scale))
        for code in range(16)
        for scale in range(127)
    ]
    assert [Fraction(v) for v in found.double().view(-1).tolist()] == expected


def test_products_of_two_such_operands_are_exact_in_fp32():
    """Two bf16 operands of 8 significant bits have a product of 16 at most, and fp32 holds 24. These have at most 11."""
    codes, scales = torch.arange(8, dtype=torch.uint8), torch.arange(127, dtype=torch.uint8)
    operands = (E2M1.decode(codes)[:, None] * E4M3.decode(scales)).unique().bfloat16().float()
    assert len(operands) > 100
    products = operands[:, None] * operands
    exact = operands.double()[:, None] * operands.double()  # 53 bits
    assert torch.equal(products.double(), exact)
    assert max(odd_part(Fraction(v).numerator).bit_length() for v in products.unique().tolist() if v) == 11


@pytest.mark.parametrize("format", MX)
def test_what_an_mx_block_decodes_to_is_exact_in_bf16_where_it_is_normal_there(format):
    element, powers = ELEMENTS[format], torch.arange(-110, 119)
    codes = torch.arange(16 if format == "mxfp4" else 0x7F, dtype=torch.uint8)
    decoded = torch.ldexp(element.decode(codes)[:, None], powers)
    assert torch.equal(decoded.bfloat16().float(), decoded) and bool(decoded.isfinite().all())


def test_e4m3_values_are_exact_in_bf16():
    values = E4M3.decode(torch.tensor([code for code in range(256) if code & 0x7F != 0x7F], dtype=torch.uint8))
    assert torch.equal(values.bfloat16().float(), values)


def odd_part(n):
    return n // (n & -n)
