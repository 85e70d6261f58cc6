"""The order of a quantizer's operations: inputs on which any other order gives other bits, and ours the stated ones'."""

from fractions import Fraction

import format_values
import numpy as np
import pytest
import torch
from quantize_reference import SCALES, SIXTH, F, assert_as_reference

# Other ways to write the same formulas: an implementation of one would fail on the inputs that the tests find.
OTHER_S = {
    "S as a reciprocal times 2688": lambda amax: F(1) / amax * F(2688),
    "S as 448 / amax * 6": lambda a: F(448) / a * F(6),
}
OTHER_C = {
    "amax * S / 6": lambda amax, s: amax * s / F(6),
    "amax / 6 * S": lambda amax, s: amax / F(6) * s,
    "(amax * S) * fp32(1/6)": lambda amax, s: amax * s * SIXTH,
}
OTHER_SCALED = {
    "v * S / s": lambda v, s_enc, s: v * s_enc / s,
    "v / s * S": lambda v, s_enc, s: v / s * s_enc,
    "v * (1 / s * S)": lambda v, s_enc, s: v * (F(1) / s * s_enc),
    "v / (s / S)": lambda v, s_enc, s: v / (s / s_enc),
}


def draws(seed):
    return np.random.default_rng(seed).uniform(1, 2, 200_000).astype(F)


@pytest.mark.parametrize("other", OTHER_S.values(), ids=OTHER_S)
def test_another_order_gives_another_tensor_scale_and_ours_is_the_stated_one(other):
    amax = draws(1)
    amax = amax[np.flatnonzero(F(2688) / amax != other(amax))[0]]
    x = torch.zeros(16)
    x[3] = float(amax)
    found = assert_as_reference(x, "nvfp4", (16,))
    assert F(found.tensor_scale.item()) != other(amax)


@pytest.mark.parametrize("other", OTHER_C.values(), ids=OTHER_C)
def test_another_order_gives_another_block_scale_and_ours_is_the_stated_one(other):
    """A second block whose amax * S / 6 lies so near a midpoint of E4M3 that the order decides."""
    first = F(1.0)  # S = 2688 has few bits, so c has the rounding of 1/6 alone
    s_enc = F(2688) / first
    middles = (SCALES[8:120] + SCALES[9:121]) / 2
    near = np.concatenate([m * F(6) / s_enc * (1 + np.arange(-8, 9) * F(2.0**-24)) for m in middles]).astype(F)
    here, there = (format_values.nearest_codes(v, format_values.E4M3) for v in (near * (s_enc * SIXTH), other(near, s_enc)))
    at = np.flatnonzero(here != there)
    assert len(at)
    x = torch.zeros(32)
    x[0], x[16] = float(first), float(near[at[0]])
    found = assert_as_reference(x, "nvfp4", (16,))
    assert F(found.block_scale[1].float().item()) != SCALES[there[at[0]]]


@pytest.mark.parametrize("other", OTHER_SCALED.values(), ids=OTHER_SCALED)
def test_another_order_gives_another_code_and_ours_is_the_stated_one(other):
    """A value so near a midpoint of E2M1 that the order decides."""
    for amax in draws(2)[:200]:
        s_enc = F(2688) / amax
        s = SCALES[format_values.nearest_codes(amax / 3 * (s_enc * SIXTH), format_values.E4M3)]
        middles = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5], dtype=F)
        near = np.concatenate([m * s / s_enc * (1 + np.arange(-4, 5) * F(2.0**-23)) for m in middles]).astype(F)
        here, there = (format_values.nearest_codes(v, format_values.E2M1) for v in (near * (s_enc / s), other(near, s_enc, s)))
        at = np.flatnonzero(here != there)
        if len(at):
            break
    assert len(at)
    x = torch.zeros(32)
    x[0], x[16], x[17] = float(amax), float(amax / 3), float(near[at[0]])
    found = assert_as_reference(x, "nvfp4", (16,))
    assert found.codes[17] != there[at[0]]


def test_a_block_scale_of_bf16_values_that_lies_exactly_at_a_midpoint_goes_to_the_even_code():
    """1.6328125 * 448 / 4.8125 is 152, midway between 144 and 160. torchao, which divides by 6 and by amax / 2688, gets 144."""
    x = torch.zeros(2, 16, dtype=torch.bfloat16)
    x[0, 0], x[1, 0] = 4.8125, 1.6328125
    assert Fraction(1.6328125) * 448 / Fraction(4.8125) == 152
    found = assert_as_reference(x, "nvfp4", (1, 16))
    assert found.block_scale.float().tolist() == [[448.0], [160.0]]


def test_fp8_divides_by_its_scale_and_by_448_rather_than_multiplying_by_reciprocals():
    amax = draws(3)
    of_reciprocal = amax * (F(1) / F(448))
    amax = amax[np.flatnonzero(amax / F(448) != of_reciprocal)[0]]
    scale = amax / F(448)
    middles = (SCALES[:-1] + SCALES[1:]) / 2
    near = np.concatenate([m * scale * (1 + np.arange(-4, 5) * F(2.0**-23)) for m in middles]).astype(F)
    near = near[near < amax]
    here, there = (format_values.nearest_codes(v, format_values.E4M3) for v in (near / scale, near * (F(1) / scale)))
    at = np.flatnonzero(here != there)[:127]
    x = torch.zeros(128)
    x[0], x[1 : 1 + len(at)] = float(amax), torch.from_numpy(near[at])
    found = assert_as_reference(x, "fp8", (128,))
    assert len(at) and (found.codes[1 : 1 + len(at)].numpy() != there[at]).all()
