"""What quantization does to tensors, in figures: against values worked out by hand, and only while somebody listens."""

import math

import pytest
import torch
from expert_inputs import run
from quantized_moe import drawn, precision

from kernels import Arithmetic, Quantization, moe_mlp, observe
from kernels.cpu.operands import Quantizer

FORWARD = {"input", "weight_up", "hidden", "weight_down"}
BACKWARD = {"gradient", "hidden_gradient"}
OF_WEIGHT_GRADIENTS = {"wgrad_input", "wgrad_hidden_gradient", "wgrad_hidden", "wgrad_gradient"}


def figures(x, decoded, limit):
    return observe.figures(torch.tensor(x), torch.tensor(decoded), torch.tensor(limit))


def test_figures_of_a_tensor_by_hand():
    found = figures([1.0, -2.0, 0.0, 4.0, 0.25], [1.0, -2.0, 0.0, 3.0, 0.0], 3.0)
    assert found == {
        "snr_db": pytest.approx(10 * math.log10(21.0625 / (1 + 0.0625))),
        "underflow": 1 / 4,  # of what was not zero
        "saturation": 1 / 5,
        "smallest": 1.0,
    }


def test_figures_of_zeros_and_of_what_lost_nothing():
    zeros = figures([0.0, 0.0], [0.0, 0.0], 1.0)
    assert math.isnan(zeros.pop("snr_db")) and zeros == {"underflow": 0, "saturation": 0, "smallest": 0}
    assert figures([1.0, -0.5], [1.0, -0.5], 1.0) == {"snr_db": math.inf, "underflow": 0, "saturation": 0, "smallest": 0.5}
    assert figures([0.1, 0.2], [0.0, 0.0], 6.0) == {"snr_db": 0.0, "underflow": 1, "saturation": 0, "smallest": 0}


ROW = [6.0, -2.4, 1.0, 0.2, -0.2, 0.6, 3.4, 5.1] + [0.0] * 8  # the tensor's largest 6 makes every decoded value E2M1(x)
DECODED = [6.0, -2.0, 1.0, 0.0, 0.0, 0.5, 3.0, 6.0] + [0.0] * 8


@pytest.mark.parametrize(
    "clip, decoded, saturation",
    # half the scale, twice the code: 3 is the largest that decodes, steps are 0.25, 0.5 and 1
    [(1.0, DECODED, 0), (0.5, [3.0, -2.0, 1.0, 0.25, -0.25, 0.5, 3.0, 3.0] + [0.0] * 8, 3 / 16)],
)
def test_a_row_in_nvfp4_by_hand(clip, decoded, saturation):
    make = Quantizer(Quantization("nvfp4", clip=clip), Arithmetic.of("full"), torch.tensor([0, 0, 0, 7]), fused=False)
    with observe.observed() as found:
        operand = make.rows(torch.tensor([ROW]), "input", "input")
    assert (operand.values / operand.divisor).tolist() == [decoded]
    error = sum((a - b) ** 2 for a, b in zip(ROW, decoded))
    assert found == {
        7: {
            "input": {
                "snr_db": pytest.approx(10 * math.log10(sum(a * a for a in ROW) / error), rel=1e-6),
                "underflow": sum(a != 0 and b == 0 for a, b in zip(ROW, decoded)) / 8,
                "saturation": saturation,
                "smallest": min(abs(b) for b in decoded if b),
            }
        }
    }


def test_a_row_in_fp8_by_hand():
    """448 is the largest: the scale is 1, and half of the smallest value, 2^-9, rounds to the even 0."""
    row = [448.0, -2.0, 2.0**-9, 2.0**-10, 17.0] + [0.0] * 123
    make = Quantizer(Quantization("fp8"), Arithmetic.of("full"), torch.zeros(4, dtype=torch.int64), fused=False)
    with observe.observed() as found:
        make.rows(torch.tensor([row]), "input", "input")
    error = 2.0**-20 + 1  # 17 lies between 16 and 18
    assert found[0]["input"] == {
        "snr_db": pytest.approx(10 * math.log10(sum(a * a for a in row) / error), rel=1e-6),
        "underflow": 1 / 5,
        "saturation": 0,
        "smallest": 2.0**-9,
    }


@pytest.mark.parametrize(
    "format, backward",
    [("fp8", BACKWARD), *((format, BACKWARD | OF_WEIGHT_GRADIENTS) for format in ("nvfp4", "mxfp8", "mxfp4"))],
)
def test_a_listener_hears_of_every_quantized_tensor_of_its_layer_forward_and_backward(format, backward):
    tensors, dy_TD = drawn("swiglu")
    words = dict(activation="swiglu", precision=precision(format))
    with observe.observed() as found:
        moe_mlp(*tensors, key_4=torch.tensor([0, 0, 0, 3]), **words)
        run(tensors, dy_TD, key_4=torch.tensor([0, 0, 0, 5]), **words)
    assert found[3].keys() == FORWARD and found[5].keys() == FORWARD | backward
    least, most = {"fp8": (25, 45), "mxfp8": (25, 45), "nvfp4": (12, 30), "mxfp4": (12, 30)}[format]  # 3 and 1 mantissa bits
    assert all(least < of_tensor["snr_db"] < most for of_tensor in found[5].values())


def test_what_stays_bf16_is_not_heard_of():
    tensors, dy_TD = drawn("relu2")
    dials = Quantization("nvfp4", keep=("input", "weight", "weight_gradient"))
    with observe.observed() as found:
        run(tensors, dy_TD, activation="relu2", precision=precision(dials))
    assert found[0].keys() == {"hidden", "gradient", "hidden_gradient"}


def test_listening_changes_no_bits_and_nothing_is_measured_when_nobody_listens(monkeypatch):
    tensors, dy_TD = drawn("relu2")
    words = dict(activation="relu2", precision=precision("nvfp4"))
    with observe.observed():
        heard = run(tensors, dy_TD, **words)
    assert not observe.listening()

    def measured(*_):
        raise AssertionError("measured, but nobody listens")

    monkeypatch.setattr(observe, "figures", measured)
    assert all(torch.equal(a, b) for a, b in zip(heard, run(tensors, dy_TD, **words)))


def test_a_large_tensor_is_sampled_with_the_limits_of_what_is_sampled(monkeypatch):
    monkeypatch.setattr(observe, "SAMPLE", 64)
    x_PI, limit_P1 = torch.arange(1.0, 129).view(8, 16), torch.tensor([[1e3]] * 7 + [[0.0]])
    with observe.observed() as found:
        observe.note(0, "rows", x_PI, x_PI, limit_P1)
        observe.note(0, "first", x_PI, x_PI, torch.tensor([[2.0]]))
    assert found[0]["rows"]["saturation"] == 0  # every second row: not the last
    assert found[0]["first"]["saturation"] == 62 / 64


WEIGHTS = torch.arange(16.0).repeat(1, 16, 1) - 6  # of one square; the largest is 9


@pytest.mark.parametrize("blocks, flips", [("2d", 1), ("1d", 15)])
def test_the_share_of_flipped_codes_by_hand(blocks, flips):
    """A value that crosses a boundary flips; one that moves within its code does not. A larger largest moves the grid of its
    block: here of the square, or of a column of equal values, of which the others flip then."""
    dials = Quantization("nvfp4", weight_blocks=blocks)
    crossed, stayed, larger = (WEIGHTS.clone() for _ in range(3))
    crossed[0, 3, 7] = 4.0
    stayed[0, 3, 7] *= 1.001
    larger[0, 0, 15] = 18.0
    assert observe.flipped(WEIGHTS, WEIGHTS, dials) == 0
    assert observe.flipped(WEIGHTS, crossed, dials) == flips / 256
    assert observe.flipped(WEIGHTS, stayed, dials) == 0
    of_square, of_column = (observe.flipped(WEIGHTS, larger, Quantization("nvfp4", weight_blocks=b)) for b in ("2d", "1d"))
    assert of_square > 0.5 > of_column


def test_a_larger_largest_flips_no_code_of_another_expert_where_tensor_scales_are_those_of_experts():
    before = torch.cat([WEIGHTS, WEIGHTS.flip(1)])
    after = before.clone()
    after[1] *= 2.0**24  # the other's scales are 0 then, if the scale of the layer is theirs
    by_layer, by_expert = (
        observe.flipped(before, after, Quantization("nvfp4", tensor_scale=scale)) for scale in ("layer", "expert")
    )
    assert by_layer > 0.4 and by_expert == 0


def test_flips_are_counted_in_every_nth_expert_where_there_are_many_weights(monkeypatch):
    monkeypatch.setattr(observe, "SAMPLE", 128)
    before = WEIGHTS.repeat(6, 1, 1)
    after = before.clone()
    after[1, 3, 7] = after[5, 3, 7] = 4.0  # 1,536 values, 512 at once: experts 0 and 3 are looked at
    assert observe.flipped(*map(observe.some_experts, (before, after)), Quantization("nvfp4")) == 0
    after[3, 3, 7] = 4.0
    assert observe.flipped(*map(observe.some_experts, (before, after)), Quantization("nvfp4")) == 1 / 512


def test_what_a_clipped_scale_saturates_before_and_after_is_no_flip():
    moved = WEIGHTS.clone()
    moved[0, 3, 13] = 8.0  # from 7; the largest is 9
    assert observe.flipped(WEIGHTS, moved, Quantization("nvfp4")) == 1 / 256
    assert observe.flipped(WEIGHTS, moved, Quantization("nvfp4", clip=0.5)) == 0
