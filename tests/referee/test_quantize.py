"""Quantizers against torchao's: the formats, the nvfp4 of `nvfp4_quantize`, the fp8 of its blockwise training prototype.

Where torchao 0.18.0 differs by definition, all of it checked here:

| | here | torchao |
|---|---|---|
| nvfp4, tensor scale | S = 2688 / amax, 1 for zeros | p = amax / 2688, given by the caller: 1 / S up to rounding |
| block scale | E4M3(min(amax_b * (S * fp32(1/6)), 448)) | E4M3(clamp((amax_b / 6) / p, 2^-6, 448)) |
| value before its code | v * (S / s), 0 where s = 0 | v * ((1 / p) / s) |
| decoded | code * s / S | code * (p * s) |
| fp8, scale | amax_b / 448 | 1 / t, t = fp32(448 / max(amax_b, 1e-12)), that division in float64 |
| value before its code | v / scale, 0 where it is 0 | v * t |

2^-6 (the smallest normal E4M3 value) and 1e-12 are floors; here are none. Above them a scale or code can differ only where a
midpoint lies between the exact number and what either order makes of it: within n u of it, u = 2^-24, for n operations that
round. These are 4 and 3 for a block scale of nvfp4 (1/6 counts), 3 and 4 for its codes, 2 and 2 for codes of fp8. Quotients of
bf16 numbers, of 8 bits each, are midpoints themselves or farther off than roundings reach; so they are met more often.
"""

from fractions import Fraction

import pytest
import torch
from format_values import E2M1 as E2M1_VALUES
from format_values import E4M3 as E4M3_VALUES
from format_values import nearest_code
from torchao.prototype.blockwise_fp8_training.kernels import (
    torch_blockwise_scale_act_quant_lhs,
    torch_blockwise_scale_act_quant_rhs,
    torch_blockwise_scale_weight_quant,
)
from torchao.prototype.mx_formats.kernels import f4_unpacked_to_f32, f32_to_f4_unpacked, unpack_uint4
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

from kernels.formats import E2M1, E4M3
from kernels.quantize import quantize

TENSORS, SHAPE = 128, (64, 1024)  # of the random ones
U = 2.0**-24 * 1.001  # for products of several (1 + u)
VALUES = {f.name: f.decode(torch.arange(count, dtype=torch.uint8)).double() for f, count in ((E4M3, 0x7F), (E2M1, 8))}


def randn(rows, columns, seed):
    """Magnitudes over some eight powers of two, by row and by column."""
    draws = torch.Generator().manual_seed(seed)
    spread = torch.exp2(torch.rand(rows, 1, generator=draws) * 4 + torch.rand(columns, generator=draws) * 4)
    return torch.randn(rows, columns, generator=draws) * spread


def at_a_midpoint(exact, format, roundings):
    """Where float64 `exact` is as near to a midpoint as that many roundings can move a number."""
    values = VALUES[format.name]
    middles = (values[1:] + values[:-1]) / 2
    above = torch.bucketize(exact.abs(), middles).clamp(1, len(middles) - 1)
    distance = torch.minimum((exact.abs() - middles[above]).abs(), (exact.abs() - middles[above - 1]).abs())
    return distance <= roundings * U * exact.abs()


def moved_to_midpoints(x):
    """Every value but its block's largest put where its E2M1 code changes, give or take four units in the last place."""
    scale = quantize(x, "nvfp4").block_scale.double().repeat_interleave(16, 1) * (x.abs().max().double() / 2688)
    middles = (VALUES["e2m1"][1:] + VALUES["e2m1"][:-1]) / 2
    draws = torch.Generator().manual_seed(2)
    below = torch.bucketize(x.abs() / scale, middles).clamp(min=1) - 1
    nudge = 1 + torch.randint(-4, 5, x.shape, generator=draws) * 2.0**-23
    moved = (middles[below] * scale * nudge).float().copysign(x)
    largest = x.abs().view(len(x), -1, 16).amax(-1).repeat_interleave(16, 1)
    return torch.where(x.abs() < largest, torch.minimum(moved.abs(), largest).copysign(x), x)


def every_kind_of_fp32():
    """Every exponent and sign with 4,096 mantissas each, and the neighbours of all midpoints."""
    mantissas = torch.randint(0, 1 << 23, (4096,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    x = ((torch.arange(255, dtype=torch.int32) << 23)[:, None] | mantissas).view(torch.float32).reshape(-1)
    middles = torch.cat([(v[1:] + v[:-1]) / 2 for v in VALUES.values()]).float()
    near = torch.cat([middles, *(middles.nextafter(torch.tensor(to)) for to in (0.0, 1e3)), *VALUES.values()]).float()
    x = torch.cat([x, near])
    return torch.cat([x, -x])


def test_e2m1_codes_and_values_are_torchaos_for_every_kind_of_fp32():
    x = every_kind_of_fp32()
    assert torch.equal(E2M1.encode(E2M1.round(x, None)), f32_to_f4_unpacked(x))
    codes = torch.arange(16, dtype=torch.uint8)
    assert torch.equal(E2M1.decode(codes), f4_unpacked_to_f32(codes))


def test_e4m3_codes_are_torchs_saturating_conversion_for_every_kind_of_fp32():
    x = every_kind_of_fp32()
    expected = x.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8)
    assert torch.equal(E4M3.encode(E4M3.round(x, None)), expected)


def test_e4m3_values_have_the_largest_and_smallest_of_torch():
    limits = torch.finfo(torch.float8_e4m3fn)
    assert (E4M3.largest, E4M3.smallest) == (limits.max, limits.smallest_normal / 8)


@pytest.mark.parametrize("amax", [1e-20, 1.0, 3.7, 1e20])
@pytest.mark.parametrize("midpoints", [False, True], ids=["random", "at midpoints"])
def test_nvfp4_is_torchaos_but_for_what_its_order_of_operations_rounds_to_the_other_side(midpoints, amax):
    x = randn(256, 1024, 1)
    x = x / x.abs().max() * amax
    if midpoints:
        x = moved_to_midpoints(x)
    ours, p = quantize(x, "nvfp4"), per_tensor_amax_to_scale(x.abs().max())
    theirs = NVFP4Tensor.to_nvfp4(x, per_tensor_scale=p)
    assert (1 / ours.tensor_scale.double() / p.double() - 1).abs() <= 2 * U

    scale, their_scale = ours.block_scale.float(), theirs.scale.float()
    block = x.double().view(256, -1, 16)
    exact = block.abs().amax(-1) * (2688 / 6) / x.abs().max().double()
    assert bool((exact > 2.0**-6).all())  # above their floor
    differs = scale != their_scale
    assert bool(at_a_midpoint(exact, E4M3, 4)[differs].all())
    assert differs.float().mean() < 1e-3

    same = ~differs
    codes, their_codes = (c.view(256, -1, 16)[same] for c in (ours.codes, unpack_uint4(theirs.qdata)))
    exact = (block * (2688 / x.abs().max().double()) / scale.double().unsqueeze(-1))[same]
    differs = codes != their_codes
    assert bool(at_a_midpoint(exact, E2M1, 4)[differs].all())
    assert bool(differs.any()) == (midpoints and bool(1 / p != ours.tensor_scale))  # of these amax, with 1e20
    decoded, their_decoded = (t.double().view(256, -1, 16)[same][~differs] for t in (ours.dequantize(), theirs.dequantize()))
    assert bool(((decoded - their_decoded).abs() <= 5 * U * decoded.abs()).all())


def test_torchaos_floor_of_block_scales_is_the_smallest_normal_value_and_ours_is_none():
    x = torch.zeros(1, 64)
    x[0, 0], x[0, 32:48] = 1.0, 2.0**-6 / 448
    x[0, 16:32] = torch.linspace(0.1, 1.0, 16) * 2.0**-8 / 448  # a scale of 2^-8; the last block is 0
    theirs = NVFP4Tensor.to_nvfp4(x, per_tensor_scale=per_tensor_amax_to_scale(x.abs().max()))
    ours = quantize(x, "nvfp4")
    assert theirs.scale.float().tolist() == [[448.0, 2.0**-6, 2.0**-6, 2.0**-6]]
    assert ours.block_scale.float().tolist() == [[448.0, 2.0**-8, 2.0**-6, 0.0]]
    ours, theirs = (q.dequantize()[0, 16:32] - x[0, 16:32] for q in (ours, theirs))
    assert ours.norm() < theirs.norm()


FP8 = {
    "1 x 128": (torch_blockwise_scale_act_quant_lhs, {}, lambda scale: scale),
    "128 x 1": (torch_blockwise_scale_act_quant_rhs, {"axis": 0}, lambda scale: scale),
    "128 x 128": (torch_blockwise_scale_weight_quant, {"square": True}, lambda scale: scale.repeat_interleave(128, 0)),
}


@pytest.mark.parametrize("amax", [1e-9, 1.0, 3.7, 1e20])
@pytest.mark.parametrize("theirs, where, rows_of", FP8.values(), ids=FP8)
def test_fp8_is_torchaos_but_for_multiplying_by_a_reciprocal(theirs, where, rows_of, amax):
    x = randn(256, 512, 4)
    x = x / x.abs().max() * amax
    ours, (their_codes, their_scale) = quantize(x, "fp8", **where), theirs(x)
    assert bool(((ours.block_scale.double() / their_scale.double() - 1).abs() <= 3 * U).all())
    amax_of = ours.block_scale.double()
    for at, length in enumerate(ours.block):
        amax_of = amax_of.repeat_interleave(length, at)
    differs = ours.codes != their_codes.contiguous().view(torch.uint8)
    assert bool(at_a_midpoint(x.double() / amax_of, E4M3, 2)[differs].all())
    assert differs.float().mean() < 1e-4


def test_torchaos_floor_of_fp8_is_an_amax_of_1e_12_and_ours_is_none():
    x = torch.zeros(2, 128)
    x[0] = torch.linspace(-1e-16, 1e-16, 128)
    ours, (codes, scale) = quantize(x, "fp8"), torch_blockwise_scale_act_quant_lhs(x)
    assert not codes[1].float().any() and scale.view(-1).tolist() == pytest.approx([1e-12 / 448] * 2, rel=4 * U)
    assert ours.block_scale.view(-1).tolist() == pytest.approx([1e-16 / 448, 0.0], rel=2 * U)
    theirs = codes.float() * scale
    assert (ours.dequantize() - x).abs().max() < 4e-18 < (theirs - x).abs().max()


def fp32(exact):
    """A positive Fraction in fp32's normal range to the nearest fp32 number, ties to the even mantissa."""
    power = exact.numerator.bit_length() - exact.denominator.bit_length()
    step = Fraction(2) ** (power - (exact < Fraction(2) ** power) - 23)
    return round(exact / step) * step


SIXTH = fp32(Fraction(1, 6))
KINDS = {  # magnitudes, roundings, the exact quotient and what the stated order makes of it: of positive Fractions
    "nvfp4 block scales": (  # of a block's largest magnitude and the tensor's
        E4M3_VALUES, 4, lambda b, a: 448 * b / a, lambda b, a: fp32(b * fp32(fp32(2688 / a) * SIXTH)),
    ),
    "nvfp4 codes": (  # of a value, the block's scale and the tensor's largest magnitude
        E2M1_VALUES, 4, lambda v, s, a: 2688 * v / a / s, lambda v, s, a: fp32(v * fp32(fp32(2688 / a) / s)),
    ),
    "fp8 codes": (  # of a value and its block's largest magnitude
        E4M3_VALUES, 2, lambda v, b: 448 * v / b, lambda v, b: fp32(v / fp32(b / 448)),
    ),
}  # fmt: skip


class Differences:
    """Codes of a kind, ours and torchao's, that differ: how many, and that exact arithmetic leaves each to the roundings: that
    many, of bf16 tensors none, lead from the exact quotient to a midpoint."""

    def __init__(self, kind, dtype):
        self.name, (self.magnitudes, self.roundings, self.quotient, self.stated) = kind, KINDS[kind]
        self.of_dtype, self.roundings = dtype, 0 if dtype == torch.bfloat16 else self.roundings
        self.found, self.of, self.most, self.even = 0, 0, 0.0, 0

    def count(self, ours, theirs, *numbers):
        """`ours`, `theirs`: codes without sign; `numbers`: what the kind's functions take, magnitudes of the same shape."""
        differs = torch.nonzero((ours != theirs).view(-1)).view(-1)
        self.found, self.of = self.found + len(differs), self.of + ours.numel()
        self.most = max(self.most, len(differs) / ours.numel())
        for code, other, *given in zip(*(t.reshape(-1)[differs].tolist() for t in (ours, theirs, *numbers))):
            given = [Fraction(number) for number in given]
            quotient = self.quotient(*given)
            assert abs(code - other) == 1
            middle = (Fraction(self.magnitudes[code]) + Fraction(self.magnitudes[other])) / 2
            assert abs(quotient - middle) <= self.roundings * Fraction(U) * quotient
            assert nearest_code(self.stated(*given), self.magnitudes) == code
            self.even += nearest_code(quotient, self.magnitudes) == code

    def __str__(self):
        share = f"{1e4 * self.found / self.of:.3f} in 10,000, at most {1e4 * self.most:.1f} of one tensor"
        return (
            f"{self.name} of {self.of_dtype} tensors: {self.found:,} of {self.of:,} differ ({share}); "
            f"exact arithmetic agrees with ours in {self.even:,} of them"
        )


def random_tensors(dtype):
    """Gaussian, of a standard deviation from 1 to 4 each: whether bf16 quotients meet midpoints hangs on the largest value."""
    draws = torch.Generator().manual_seed(7)
    for _ in range(TENSORS):
        std = torch.exp2(2 * torch.rand(1, generator=draws))
        yield (torch.randn(SHAPE, generator=draws) * std).to(dtype).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_of_random_tensors_nvfp4_differs_at_midpoints_of_exact_quotients_alone_and_ours_is_the_stated_order(dtype):
    scales, codes = (Differences(f"nvfp4 {kind}", dtype) for kind in ("block scales", "codes"))
    for x in random_tensors(dtype):
        ours = quantize(x, "nvfp4")
        theirs = NVFP4Tensor.to_nvfp4(x, per_tensor_scale=per_tensor_amax_to_scale(x.abs().max()))
        size = x.abs().view(*ours.block_scale.shape, 16)
        scale, their_scale = (t.view(torch.uint8) for t in (ours.block_scale, theirs.scale))
        scales.count(scale, their_scale, size.amax(-1), size.max().expand(scale.shape))
        same = (scale == their_scale).unsqueeze(-1)
        mine, other = (torch.where(same, t.view_as(size) & 7, 0) for t in (ours.codes, unpack_uint4(theirs.qdata)))
        codes.count(mine, other, size, ours.block_scale.float().unsqueeze(-1).expand_as(size), size.max().expand_as(size))
    for found in (scales, codes):
        print(found)
        assert bool(found.found) == (dtype == torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_of_random_tensors_fp8_differs_at_midpoints_of_exact_quotients_alone_and_ours_is_the_stated_order(dtype):
    codes = Differences("fp8 codes", dtype)
    for x in random_tensors(dtype):
        ours, (theirs, _) = quantize(x, "fp8"), torch_blockwise_scale_act_quant_lhs(x)
        block = x.abs().view(SHAPE[0], -1, 128).amax(-1).repeat_interleave(128, 1)
        mine, other = (c.contiguous().view(torch.uint8) & 127 for c in (ours.codes, theirs))
        codes.count(mine, other, x.abs(), block)
    print(codes)
    assert codes.found


def test_the_block_scale_of_a_midpoint_of_bf16_values_is_the_even_one_here_and_its_neighbour_in_torchao():
    x = torch.zeros(2, 16, dtype=torch.bfloat16)
    x[0, 0], x[1, 0] = 4.8125, 1.6328125
    theirs = NVFP4Tensor.to_nvfp4(x, per_tensor_scale=per_tensor_amax_to_scale(x.abs().max()))
    assert quantize(x, "nvfp4").block_scale.float().tolist() == [[448.0], [160.0]]
    assert theirs.scale.float().tolist() == [[448.0], [144.0]]
