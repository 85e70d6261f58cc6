"""Dither of weights: which codes it may move and how far, that a step has one, and the CPU backends against the oracle."""

import pytest
import torch
from expert_inputs import relative_error, run
from quantized_moe import drawn, in_float64, precision

from kernels import Quantization, observe
from kernels.formats import E2M1
from kernels.noise import DITHERED, GROUP, QUARTER, dither
from kernels.precision import Precision
from kernels.quantize import quantize, recoded

KEY_4, SHAPE = torch.tensor([3, 5, 64, 1]), (4, 64, 128)
OF_SUMS, OF_A_FLIP = 1e-6, 1e-3  # as tests/test_kernels_quantized_moe.py measured them


def test_noise_reaches_a_quarter_in_the_share_of_groups_that_is_asked():
    found = dither(KEY_4, "weight_up", SHAPE, 0.25)
    groups = found.view(-1, GROUP)
    drawn = (groups != 0).any(1)
    assert found.abs().max() <= QUARTER and abs(float(drawn.double().mean()) - 0.25) < 0.02
    noise = groups[drawn]
    assert abs(float(noise.mean())) < 0.003 and float(noise.var()) == pytest.approx((2 * QUARTER) ** 2 / 12, rel=0.03)
    none, every = (dither(KEY_4, "weight_up", SHAPE, share) for share in (0.0, 1.0))
    assert not none.any() and (every != 0).double().mean() > 0.99


def test_a_step_has_one_dither_whichever_micro_batch_and_each_tensor_layer_and_step_its_own():
    found = dither(KEY_4, "weight_up", SHAPE, 0.5)
    assert torch.equal(found, dither(torch.tensor([3, 5, 0, 1]), "weight_up", SHAPE, 0.5))
    others = [dither(torch.tensor(key), "weight_up", SHAPE, 0.5) for key in ([4, 5, 64, 1], [3, 6, 64, 1], [3, 5, 64, 2])]
    others.append(dither(KEY_4, DITHERED[1], SHAPE, 0.5))
    assert not any(torch.equal(found, other) for other in others)


@pytest.mark.parametrize("format", ["nvfp4", "mxfp4"])
def test_a_code_moves_by_one_at_most_and_scales_do_not(format):
    w = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    jitter = dither(KEY_4, "weight_up", (1, *w.shape), 0.5)[0]
    still, moved = quantize(w, format, 0, square=True), quantize(w, format, 0, square=True, dither=jitter)
    assert torch.equal(still.block_scale.float(), moved.block_scale.float()) and still.tensor_scale == moved.tensor_scale
    changed = still.codes != moved.codes
    assert 0.02 < float(changed.double().mean()) < 0.25 and not (changed & (jitter == 0)).any()
    order = {float(value): at for at, value in enumerate(sorted({*E2M1.decode(torch.arange(16, dtype=torch.uint8)).tolist()}))}
    before, after = ([order[value] for value in E2M1.decode(q.codes).flatten().tolist()] for q in (still, moved))
    assert max(abs(a - b) for a, b in zip(before, after)) == 1


def test_formats_of_eight_bits_are_not_dithered():
    with pytest.raises(ValueError, match="mxfp8 is not dithered"):
        quantize(torch.ones(32, 32), "mxfp8", 0, dither=torch.zeros(32, 32))


@pytest.mark.parametrize("format", ["nvfp4", "mxfp4"])
@pytest.mark.parametrize("backend", ["torch", "inductor"])
def test_values_and_gradients_of_dithered_weights_are_the_oracles(format, backend):
    dials = Quantization(format, weight_blocks="2d", dither=0.5)
    words = dict(activation="relu2", precision=precision(dials), key_4=KEY_4)
    for seed in range(4):
        tensors, dy_TD = drawn("relu2", seed=seed)
        found = run(tensors, dy_TD, backend=backend, **words)
        expected = run(*in_float64(tensors, dy_TD), backend="reference", **words)
        still = run(tensors, dy_TD, backend=backend, **words | {"precision": precision(dials).still})
        assert relative_error(still[0], expected[0]) > 10 * OF_A_FLIP
        error = max(relative_error(a, b) for a, b in zip(found, expected))
        if error <= OF_SUMS:
            return
        assert error <= OF_A_FLIP
    pytest.fail(f"each of 4 draws differs from the oracle by more than {OF_SUMS}")


def test_a_precision_is_written_and_read_with_its_dither():
    dials = precision(Quantization("nvfp4", dither=0.125), "native")
    assert Precision.of(str(dials)) == dials and dials.still.quantization == Quantization("nvfp4")
    assert dials.still.still == dials.still and dials.plain == Precision(dials.arithmetic) == dials.plain.still


@pytest.mark.parametrize("format", ["fp8", "nvfp4", "mxfp8", "mxfp4"])
def test_a_tensor_has_its_own_codes_under_its_own_scales(format):
    w = torch.randn(128, 128, generator=torch.Generator().manual_seed(1))
    found = quantize(w, format, 0, square=True)
    assert torch.equal(recoded(w, found), found.codes)


def test_flips_are_told_apart_by_their_cause():
    """The weights of `test_kernels_observe.py`: one that crosses a boundary, and one larger largest, which moves the grid of
    all others."""
    weights = torch.arange(16.0).repeat(1, 16, 1) - 6
    crossed, larger = weights.clone(), weights.clone()
    crossed[0, 3, 7], larger[0, 0, 15] = 4.0, 18.0
    dials = Quantization("nvfp4")
    assert observe.causes(weights, weights, dials) == {"all": 0, "weight": 0, "scale": 0}
    assert observe.causes(weights, crossed, dials) == {"all": 1 / 256, "weight": 1 / 256, "scale": 0}
    found = observe.causes(weights, larger, dials)
    assert found["all"] > 0.5 and found["weight"] == 0 and found["scale"] == found["all"]  # 18 saturates under 9's scale
    none, some = torch.zeros(1, 16, 16), dither(KEY_4, "weight_up", (1, 16, 16), 1.0)
    of_none, of_some = (observe.causes(weights, weights, dials, jitter)["dither"] for jitter in (none, some))
    assert of_none == 0 < of_some
