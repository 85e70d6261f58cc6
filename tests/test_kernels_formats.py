"""E4M3 and E2M1: codes, values and rounding, against the bit fields and exact fractions of `format_values`."""

import math
from fractions import Fraction

import format_values
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.train.machine import compiler_missing
from kernels.formats import E2M1, E4M3

FORMATS = {"e4m3": (E4M3, format_values.E4M3), "e2m1": (E2M1, format_values.E2M1)}
BOTH = pytest.mark.parametrize("format, magnitudes", FORMATS.values(), ids=FORMATS)
LARGEST_FP32 = float(np.finfo(np.float32).max)
EXTREMES = [0.0, 2.0**-149, 3 * 2.0**-149, 2.0**-127, 2.0**-126, 1e-38, 2.0**-10, 500.0, 3e38, LARGEST_FP32]


def midpoints(magnitudes):
    """Between neighbours; the last one lies where the next value of the format would have been rounded to."""
    return [(a + b) / 2 for a, b in zip(magnitudes, magnitudes[1:] + [2 * magnitudes[-1] - magnitudes[-2]])]


def around(x):
    """x and the fp32 values next to it, of both signs."""
    x = np.float32(x)
    near = [np.nextafter(x, np.float32(0)), x, np.nextafter(x, np.float32(np.inf))]
    return [float(v) for v in near] + [-float(v) for v in near]


def bits(values):
    return torch.as_tensor(values, dtype=torch.float32).view(torch.int32).tolist()


@pytest.mark.parametrize(
    "format, value, count", [(E4M3, format_values.e4m3_value, 256), (E2M1, format_values.e2m1_value, 16)], ids=FORMATS
)
def test_every_code_decodes_to_the_value_of_its_bit_fields_and_encodes_back(format, value, count):
    codes = torch.arange(count, dtype=torch.uint8)
    values = format.decode(codes)
    assert values.dtype == torch.float32
    expected = [value(code) for code in range(count)]
    numbers = [code for code in range(count) if not math.isnan(expected[code])]
    assert set(range(count)) - set(numbers) == ({0x7F, 0xFF} if count == 256 else set())
    assert bits(values[numbers]) == bits([expected[code] for code in numbers])
    assert bool(values.isnan()[[c for c in range(count) if c not in numbers]].all())
    encoded = format.encode(values)
    assert encoded.dtype == torch.uint8 and torch.equal(encoded, codes)
    assert bits(format.decode(codes.view(2, -1)).view(-1)) == bits(values)


@BOTH
def test_values_of_the_format_round_to_themselves_with_and_without_noise(format, magnitudes):
    values = torch.tensor(magnitudes + [-v for v in magnitudes])
    assert bits(format.round(values, None)) == bits(values)
    for noise in (0.0, 0.5, 1 - 2.0**-24):
        assert bits(format.round(values, torch.full_like(values, noise))) == bits(values)


@BOTH
def test_midpoints_go_to_the_even_code_and_their_fp32_neighbours_to_the_nearer_value(format, magnitudes):
    x = [v for middle in midpoints(magnitudes) for v in around(middle)]
    assert len(x) == 6 * len(magnitudes)
    assert bits(format.round(torch.tensor(x), None)) == bits([format_values.nearest(v, magnitudes) for v in x])


@BOTH
def test_codes_of_midpoints_are_even_and_of_neighbours_the_ones_below_and_above(format, magnitudes):
    for code, middle in enumerate(midpoints(magnitudes)[:-1]):
        found = format.encode(format.round(torch.tensor(around(middle)[:3]), None)).tolist()
        assert found == [code, code + code % 2, code + 1]


@BOTH
def test_zeros_keep_their_sign_subnormal_inputs_vanish_and_what_is_too_large_saturates(format, magnitudes):
    x = [s * v for v in EXTREMES for s in (1.0, -1.0)]
    found = format.round(torch.tensor(x), None)
    assert bits(found) == bits([format_values.nearest(v, magnitudes) for v in x])
    assert format.largest == magnitudes[-1] and format.smallest == magnitudes[1]
    assert found[-1] == -format.largest and bits(found[:8]) == bits([0.0, -0.0] * 4)


@BOTH
def test_infinity_saturates_and_nan_stays_nan(format, magnitudes):
    x = torch.tensor([math.inf, -math.inf, math.nan])
    for noise in (None, torch.full((3,), 0.5)):
        found = format.round(x, noise)
        assert found[:2].tolist() == [format.largest, -format.largest] and math.isnan(found[2])


def test_nan_has_a_code_in_e4m3_and_is_refused_by_e2m1():
    assert E4M3.encode(torch.tensor([math.nan])).item() & 0x7F == 0x7F
    with pytest.raises(ValueError, match="E2M1 has no NaN"):
        E2M1.encode(torch.tensor([1.0, math.nan]))


@pytest.mark.slow
@BOTH
@settings(deadline=None, max_examples=200)
@given(x=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-600, 600, width=32), min_size=1))
def test_any_fp32_value_rounds_to_the_nearest_by_exact_fractions(format, magnitudes, x):
    assert bits(format.round(torch.tensor(x), None)) == bits([format_values.nearest(v, magnitudes) for v in x])


@BOTH
@settings(deadline=None, max_examples=200)
@given(x=st.floats(-600, 600, width=32), step=st.integers(0, 2**24 - 1))
def test_noise_rounds_away_from_zero_where_it_reaches_one_minus_the_distance_from_below(format, magnitudes, x, step):
    """The distance counts in steps of the format, and to a multiple of 2^-24, which is what the noise can tell apart."""
    found = format.round(torch.tensor([x]), torch.tensor([step * 2.0**-24])).item()
    exact = abs(Fraction(x))
    if exact >= magnitudes[-1]:
        assert found == math.copysign(magnitudes[-1], x)
        return
    code = max(c for c, value in enumerate(magnitudes) if value <= exact)
    low, high = (Fraction(magnitudes[c]) for c in (code, code + 1))
    share = round((exact - low) / (high - low) * 2**24)
    assert bits([found]) == bits([math.copysign(high if step + share >= 2**24 else low, x)])


@BOTH
def test_the_array_reference_agrees_with_exact_fractions(format, magnitudes):
    x = [v for middle in midpoints(magnitudes) + magnitudes for v in around(middle)] + EXTREMES
    codes = format_values.nearest_codes(np.array(x, dtype=np.float32), magnitudes)
    assert [magnitudes[c] for c in codes] == [abs(format_values.nearest(v, magnitudes)) for v in x]


@pytest.mark.slow
def test_compiled_rounding_equals_eager_bit_for_bit_on_special_values():
    x = [v for _, m in FORMATS.values() for middle in midpoints(m) + m for v in around(middle)]
    x = torch.tensor(x + EXTREMES + [-v for v in EXTREMES] + [math.inf, -math.inf, math.nan])
    x = torch.cat([x, torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 3])
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))

    def all_roundings(x, noise):
        return [f.round(x, n) for f in (E4M3, E2M1) for n in (None, noise)]

    run = all_roundings if compiler_missing() else torch.compile(all_roundings)
    for found, expected in zip(run(x, noise), all_roundings(x, noise)):
        number = ~expected.isnan()
        assert torch.equal(found.isnan(), ~number) and int((~number).sum()) == 1
        assert bits(found[number]) == bits(expected[number])
