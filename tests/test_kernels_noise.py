"""The bits of stochastic rounding against Python's integers, their statistics, and the random Hadamard transform.

Every draw here is fixed, so a bound of 5 standard errors either holds on every machine or on none.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.train.machine import compiler_missing
from kernels.formats import E2M1, E4M3
from kernels.hadamard import SIZE, matrix, transform_rows
from kernels.noise import TENSORS, mix, uniform, word
from kernels.quantize import fp8_round, fp8_scale, nvfp4_round, nvfp4_tensor_scale, quantize

WORD = 0xFFFFFFFF
KEY = (1337, 12, 4096, 3)  # seed, step, first token, layer
INT32 = st.integers(-(2**31), 2**31 - 1)


def mix_reference(x):
    x ^= x >> 16
    x = x * 0x7FEB352D & WORD
    x ^= x >> 15
    x = x * 0x846CA68B & WORD
    return x ^ x >> 16


def word_reference(key, tensor):
    found = TENSORS.index(tensor) + 1
    for part in key:
        found = mix_reference(found * 0x9E3779B1 + part & WORD)
    return found


def uniform_reference(word, row, column):
    of_row = mix_reference(row * 0x9E3779B1 + word & WORD)
    return (mix_reference(of_row + column * 0x85EBCA77 & WORD) >> 8) / 2**24


def noise(rows, columns, key=KEY, tensor="gradient", first_row=0):
    """fp32 (rows, columns)."""
    row = torch.arange(first_row, first_row + rows, dtype=torch.int32)[:, None]
    return uniform(word(torch.tensor(key), tensor), row, torch.arange(columns, dtype=torch.int32))


@given(x=st.lists(INT32, min_size=1, max_size=50))
def test_mix_is_the_hash_of_unsigned_integers(x):
    found = mix(torch.tensor(x, dtype=torch.int32))
    assert found.dtype == torch.int32
    assert [v & WORD for v in found.tolist()] == [mix_reference(v & WORD) for v in x]


def test_mix_gives_every_input_another_output():
    """Undone step by step: a shift by 15 or 16 undoes itself after two, an odd factor has an inverse."""
    for x in [0, 1, 2**31, WORD, *(k * 0x9E3779B1 & WORD for k in range(2000))]:
        y = mix_reference(x)
        y ^= y >> 16
        y = y * pow(0x846CA68B, -1, 2**32) & WORD
        y ^= y >> 15 ^ y >> 30
        y = y * pow(0x7FEB352D, -1, 2**32) & WORD
        assert y ^ y >> 16 == x


@settings(deadline=None)
@given(key=st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 4), tensor=st.sampled_from(TENSORS), row=INT32, column=INT32)
def test_noise_is_the_hash_of_key_tensor_row_and_column(key, tensor, row, column):
    found = word(torch.tensor(key), tensor)
    assert found.dtype == torch.int32 and found.shape == ()
    assert found.item() & WORD == word_reference(key, tensor)
    drawn = uniform(found, torch.tensor([row], dtype=torch.int32), torch.tensor([column], dtype=torch.int32))
    assert drawn.dtype == torch.float32
    assert drawn.item() == uniform_reference(word_reference(key, tensor), row, column)


def test_rows_and_columns_broadcast():
    found, of_word = noise(5, 7), word_reference(KEY, "gradient")
    assert found.tolist() == [[uniform_reference(of_word, r, c) for c in range(7)] for r in range(5)]


def test_noise_is_at_least_0_below_1_and_uses_all_24_bits():
    found = noise(512, 512)
    whole = (found * 2**24).to(torch.int64)
    assert torch.equal(whole.float() / 2**24, found) and 0 <= int(whole.min()) and int(whole.max()) < 2**24
    for bit in range(24):
        ones = ((whole >> bit) & 1).double().mean().item()
        assert abs(ones - 0.5) < 5 * 0.5 / found.numel() ** 0.5


def test_the_same_key_draws_the_same_bits_whatever_else_is_drawn():
    whole = noise(64, 96)
    assert torch.equal(whole, noise(64, 96))
    assert torch.equal(whole[40:, :32], noise(24, 32, first_row=40))


OTHERS = {
    "seed": {"key": (1338, 12, 4096, 3)},
    "step": {"key": (1337, 13, 4096, 3)},
    "first token": {"key": (1337, 12, 8192, 3)},
    "layer": {"key": (1337, 12, 4096, 4)},
    "two parts exchanged": {"key": (1337, 3, 4096, 12)},
    "row": {"first_row": 1},
    **{tensor: {"tensor": tensor} for tensor in TENSORS[1:]},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_key_tensor_or_row_draws_independent_bits(other):
    a, b = noise(256, 256), noise(256, 256, **other)
    assert int((a == b).sum()) <= 2  # 65,536 pairs meet by chance 0.004 times
    assert_uncorrelated(a, b)


def assert_uncorrelated(a, b):
    """5 standard errors of a correlation of n independent pairs, 1 / sqrt(n) each."""
    assert abs(torch.corrcoef(torch.stack([a.reshape(-1), b.reshape(-1)]).double())[0, 1]) < 5 / a.numel() ** 0.5


@pytest.mark.parametrize("down, right", [(0, 1), (0, 2), (0, 16), (1, 0), (2, 0), (16, 0), (1, 1), (1, -1)])
def test_neighbouring_elements_are_uncorrelated_and_jointly_uniform(down, right):
    rows = columns = 512
    u = noise(rows, columns)
    a = u[: rows - down, max(0, -right) : columns - max(0, right)]
    b = u[down:, max(0, right) : columns - max(0, -right)]
    assert_uncorrelated(a, b)
    assert_uncorrelated((a - 0.5).abs(), (b - 0.5).abs())
    cell = (a * 16).floor() * 16 + (b * 16).floor()
    assert chi_square(cell.reshape(1, -1), 256) < 5


def chi_square(cells, count):
    """Of whole numbers below `count`, uniform in every row of `cells`: standard deviations above the mean, rows together."""
    expected = cells.shape[1] / count
    found = torch.stack([torch.bincount(row.long(), minlength=count) for row in cells]).double()
    freedom = len(cells) * (count - 1)
    return (float(((found - expected) ** 2 / expected).sum()) - freedom) / math.sqrt(2 * freedom)


def test_every_row_and_every_column_is_uniform():
    for shape, key in [((512, 512), KEY), ((64, 4096), (0, 0, 0, 0)), ((4096, 64), (2**31, 2**31, 2**31, 2**31))]:
        u = noise(*shape, key=key)
        for cells in ((u * 16).floor(), ((u * 2**24) % 16).floor()):  # the highest and the lowest four bits
            assert abs(chi_square(cells, 16)) < 5 and abs(chi_square(cells.t(), 16)) < 5


SHARES = [0.0, 2.0**-12, 0.1, 0.25, 0.5, 0.7, 0.999, 1 - 2.0**-12]
INTERVALS = {"e4m3": (E4M3, [(0.0, 2.0**-9), (3 * 2.0**-9, 4 * 2.0**-9), (1.0, 1.125), (240.0, 256.0), (416.0, 448.0)])}
INTERVALS["e2m1"] = (E2M1, [(0.0, 0.5), (0.5, 1.0), (1.5, 2.0), (2.0, 3.0), (4.0, 6.0)])


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("format, intervals", INTERVALS.values(), ids=INTERVALS)
def test_stochastic_rounding_is_unbiased_within_5_standard_errors(format, intervals, sign):
    """A value at share p between two values of distance d rounds to one of them. With n draws the mean of what it rounds
    to has a standard error of sigma = d sqrt(p (1 - p) / n); 24 bits of noise add a bias of at most d 2^-25."""
    for number, ((low, high), share) in enumerate(itertools.product(intervals, SHARES)):
        u = noise(512, 512, key=(number, *KEY[1:]))
        x = sign * (low + share * (high - low))
        x = torch.full_like(u, x)
        found = format.round(x, u).double()
        assert set(found.abs().unique().tolist()) <= {low, high}
        distance = high - low
        p = (abs(x[0, 0].item()) - low) / distance
        sigma = distance * math.sqrt(p * (1 - p) / u.numel())
        assert abs(found.mean().item() - x[0, 0].item()) <= 5 * sigma + distance * 2.0**-25, (low, high, share)


def test_the_mean_of_quantized_tensors_goes_to_the_tensor_but_for_what_saturates_or_has_a_scale_of_0():
    """A rounding to one of two values 2 s / S apart or less has a standard deviation of at most s / S, so the mean over n keys
    a standard error of at most sigma = s / S / sqrt(n). What lies above 6 s / S (s is rounded too) is 6 s / S in every draw,
    a block without a scale 0."""
    x, keys = torch.randn(16, 32, generator=torch.Generator().manual_seed(8)), 400
    x[3, 16:] *= 2.0**-11 / 448  # of a largest of 3.2: it asks for scales below 2^-10
    drawn = torch.stack([quantize(x, "nvfp4", noise=noise(16, 32, key=(seed, *KEY[1:]))).dequantize() for seed in range(keys)])
    nearest = quantize(x, "nvfp4")
    unit = (nearest.block_scale.float() / nearest.tensor_scale).repeat_interleave(16, 1)
    sigma, inside = unit / keys**0.5, x.abs() <= 6 * unit
    assert torch.equal(unit == 0, (torch.arange(16)[:, None] == 3) & (torch.arange(32) >= 16))
    assert 0.9 < inside.float().mean() < 1
    assert bool(((drawn.double().mean(0) - x).abs() <= 5 * sigma)[inside].all())
    assert bool(((nearest.dequantize() - x).abs() > 5 * sigma)[inside].any())
    assert bool(((drawn - torch.copysign(6 * unit, x)).abs() <= 6 * unit * 2.0**-22)[:, ~inside].all())


def test_what_stochastic_rounding_is_biased_on_of_gaussian_tensors_in_nvfp4():
    """The figures of README; `-rP` prints them. A scale is rounded down by 1/17 at most: from 17 to 16 of its steps."""
    saturated, blocks, lost, most = [], [], [], 0.0
    for seed in range(24):
        draws = torch.Generator().manual_seed(seed)
        x = torch.randn(256, 1024, generator=draws)
        found = quantize(x, "nvfp4", noise=torch.rand(256, 1024, generator=draws))
        limit = 6 * (found.block_scale.float() / found.tensor_scale).repeat_interleave(16, 1)
        over = (x.abs() - limit).clamp(min=0)
        over = over * (over > limit * 2.0**-22)  # what fp32 rounds of a block that just fits
        assert bool((found.dequantize().abs() <= limit * (1 + 2.0**-22)).all())
        saturated.append((over > 0).float().mean())
        blocks.append((over > 0).view(256, -1, 16).any(-1).float().mean())
        lost.append(over.double().sum() / x.abs().double().sum())
        most = max(most, float((over / x.abs().clamp(min=1e-9)).max()))
    saturated, blocks, lost = (100 * float(torch.stack(shares).mean()) for shares in (saturated, blocks, lost))
    print(
        f"saturated: {saturated:.2f}% of values, one or more in {blocks:.1f}% of blocks; {lost:.3f}% of the sum of magnitudes"
    )
    assert saturated == pytest.approx(3.5, abs=0.05) and blocks == pytest.approx(51, abs=0.5)
    assert lost == pytest.approx(0.194, abs=0.003) and 1 / 18 < most < 1 / 17 + 1e-6


@pytest.mark.slow
def test_compiled_noise_and_rounding_equal_eager():
    row, column = torch.arange(96, dtype=torch.int32)[:, None], torch.arange(128, dtype=torch.int32)
    x = torch.randn(96, 128, generator=torch.Generator().manual_seed(0))
    x[0], x[1] = 0, x[1] * 1e-38
    nvfp4_scale = quantize(x, "nvfp4").block_scale.float()[:, :1]
    tensor_scale = nvfp4_tensor_scale(x.abs().max())
    fp8 = fp8_scale(x.abs().amax(1, keepdim=True))

    def rounded(key, x, row, column):
        u = uniform(word(key, "hidden_gradient"), row, column)
        return u, nvfp4_round(x, nvfp4_scale, tensor_scale, u), fp8_round(x, fp8, u)

    run = rounded if compiler_missing() else torch.compile(rounded)
    for key in (KEY, (0, 0, 0, 0), (2**32 - 1, 2**31, 2**40, -1)):
        found, expected = run(torch.tensor(key), x, row, column), rounded(torch.tensor(key), x, row, column)
        for a, b in zip(found, expected):
            assert torch.equal(a.view(torch.int32), b.view(torch.int32))


def test_hadamard_is_sylvesters_matrix_over_4_with_random_signs_and_orthogonal():
    expected = [[(-1) ** ((i & j).bit_count() + (mix_reference(j) & 1)) / 4 for j in range(SIZE)] for i in range(SIZE)]
    assert matrix().dtype == torch.float32 and matrix().tolist() == expected
    assert torch.equal(matrix() @ matrix().t(), torch.eye(SIZE)) and torch.equal(matrix().t() @ matrix(), torch.eye(SIZE))
    signs = matrix()[0].sign()
    assert 0 < int((signs > 0).sum()) < SIZE


def test_transforming_both_factors_leaves_their_product():
    """Each transformed value is a sum of 16 products, off by at most 16 u (|H| |x|), u = 2^-24; two factors, so 32 u of the
    product of those bounds. The products themselves are taken in float64."""
    draws = torch.Generator().manual_seed(5)
    x_PD, dy_PO = torch.randn(64, 24, generator=draws), torch.randn(64, 40, generator=draws)
    found = transform_rows(x_PD).double().t() @ transform_rows(dy_PO).double()
    spread = torch.full((SIZE, SIZE), 0.25, dtype=torch.float64)
    x_bound, dy_bound = ((spread @ t.double().abs().view(4, SIZE, -1)).view(64, -1) for t in (x_PD, dy_PO))
    assert bool(((found - x_PD.double().t() @ dy_PO.double()).abs() <= 32 * 2.0**-24 * (x_bound.t() @ dy_bound)).all())
    assert not torch.allclose(transform_rows(x_PD), x_PD)


def test_blocks_of_16_rows_and_columns_do_not_mix():
    x_PD = torch.randn(48, 8, generator=torch.Generator().manual_seed(6))
    changed = x_PD.clone()
    changed[20, 3] += 1
    differs = transform_rows(x_PD) != transform_rows(changed)
    assert bool(differs[16:32, 3].all()) and int(differs.sum()) == 16
    assert transform_rows(x_PD[:0]).shape == (0, 8)


def test_an_outlier_is_spread_evenly_over_its_block():
    x_PD = torch.zeros(32, 1)
    x_PD[5] = 8.0
    assert transform_rows(x_PD).abs().view(-1).tolist() == [2.0] * 16 + [0.0] * 16


def test_fewer_values_beside_an_outlier_are_lost_to_zero():
    x_PD = torch.randn(16, 256, generator=torch.Generator().manual_seed(7))
    x_PD[5] = 12.0  # a quarter of a code unit, 12 / 6 / 4 = 0.5, is then lost: 38% of a normal distribution
    lost, lost_transformed = (
        (quantize(t, "nvfp4", axis=0).codes & 7 == 0).float().mean() for t in (x_PD, transform_rows(x_PD))
    )
    assert lost > 0.3 and lost_transformed < 0.05
