"""What enters the products of a quantized expert MLP, seen where it enters: formats, dials, noise, and what may not."""

from dataclasses import replace

import pytest
import torch
from expert_inputs import run
from quantized_moe import drawn, precision, turned_dials, watch_products

from kernels import NonFiniteOperand, Quantization
from kernels.formats import E2M1, E4M3
from kernels.precision import MX
from kernels.quantize import ELEMENTS
from kernels.routing import segments

FORMATS = ("fp8", "nvfp4", *MX)
PRODUCTS = ("up", "down", "dH", "dX", "dW up", "dW down")  # in their order
SIDES = {  # product: dial of its left and of its right operand
    "up": ("input", "weight"), "down": ("hidden", "weight"), "dH": ("gradient", "weight"), "dX": ("gradient", "weight"),
    "dW up": ("weight_gradient", "weight_gradient"), "dW down": ("weight_gradient", "weight_gradient"),
}  # fmt: skip
DIALS = [pytest.param(dials, id=f"{format}, {name}") for format in FORMATS for name, dials in turned_dials(format).items()]


def operands(monkeypatch, dials, arithmetic="emulated", **words):
    """{product: (left, right)} of one forward and backward."""
    seen = watch_products(monkeypatch)
    tensors, dy_TD = drawn("relu2")
    run(tensors, dy_TD, activation="relu2", precision=precision(dials, arithmetic), **words)
    return dict(zip(PRODUCTS, seen, strict=True))


def on_fp8_grid(values):
    return bool((values.to(torch.float8_e4m3fn).float() == values.float()).all())


def on_nvfp4_grid(values, axis):
    """Whether some E4M3 scale makes E2M1 values of a block of 16 along `axis`, in each of every fifth block."""
    blocks_B16 = values.float().movedim(axis, -1).reshape(-1, 16)[::5]
    scales_S = E4M3.decode(torch.arange(1, 127, dtype=torch.uint8))
    left_B16 = blocks_B16[(blocks_B16 != 0).any(1)]
    for scale in scales_S:
        codes_B16 = left_B16 / scale
        left_B16 = left_B16[(E2M1.round(codes_B16, None) != codes_B16).any(1)]
    return len(left_B16) == 0


def on_mx_grid(format, values, axis):
    """Whether some power of two makes values of the format of each half of a block of 32 along `axis`: an expert's last block
    may be a half."""
    element, blocks_B16 = ELEMENTS[format], values.float().movedim(axis, -1).reshape(-1, 16)
    least_B1 = torch.ceil(torch.log2(blocks_B16.abs().amax(1, keepdim=True).clamp(min=2.0**-100) / element.largest))
    codes = [torch.ldexp(blocks_B16, -(least_B1 + more).int()) for more in range(20)]
    return bool(torch.stack([(element.round(c, None) == c).all(1) for c in codes]).any(0).all())


def on_grid(format, values, axis):
    if format in MX:
        return on_mx_grid(format, values, axis)
    return on_fp8_grid(values) if format == "fp8" else on_nvfp4_grid(values, axis)


@pytest.mark.parametrize("dials", DIALS)
def test_every_product_multiplies_what_its_dials_say_backward_included(monkeypatch, dials):
    """Blocks lie along the axis that the product sums over: rows' last, weights' first after the experts, and the rows
    themselves in weight gradients."""
    for product, pair in operands(monkeypatch, dials).items():
        axes = (0, 0) if product.startswith("dW") else (-1, 1)
        found = tuple(on_grid(dials.format, operand.values, axis) for operand, axis in zip(pair, axes))
        assert found == tuple(dials.quantizes(operand) for operand in SIDES[product]), product


@pytest.mark.parametrize("dials", DIALS)
def test_every_value_that_enters_a_product_is_exact_in_bf16(monkeypatch, dials):
    for product, pair in operands(monkeypatch, dials).items():
        for operand in pair:
            assert torch.equal(operand.values.bfloat16().float(), operand.values), product


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("blocks, same", [("2d", True), ("1d", False)])
def test_the_backward_multiplies_the_codes_of_the_forward_where_weight_blocks_are_squares(monkeypatch, format, blocks, same):
    seen = operands(monkeypatch, replace(Quantization.recipe(format), weight_blocks=blocks))
    for forward, backward in (("up", "dX"), ("down", "dH")):
        codes, codes_back = seen[forward][1].values, seen[backward][1].values
        assert codes.shape == codes_back.mT.shape and torch.equal(codes, codes_back.mT) is same


def test_nvfp4_squares_hold_one_scale_along_both_axes(monkeypatch):
    weights = operands(monkeypatch, Quantization.recipe("nvfp4"))["up"][1].values
    squares = weights.unflatten(2, (-1, 16)).unflatten(1, (-1, 16)).transpose(2, 3).flatten(3)
    assert on_nvfp4_grid(squares[..., ::16], -1) and on_nvfp4_grid(squares[..., 0:256:17], -1)  # a column, the diagonal


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_product_multiplies_decodes_to_its_tensor(monkeypatch, format):
    """Within half a step: 1/16 of a value in E4M3; in E2M1 a sixth of the block's largest, with a scale that is rounded too."""
    (_, w_up, *_), _ = drawn("relu2")
    _, weights = operands(monkeypatch, Quantization.recipe(format))["up"]
    if format == "fp8":
        decoded = weights.values * weights.scale.repeat_interleave(128, 1).repeat_interleave(128, 2)
        bound = w_up.abs() * 2**-4 + weights.scale.max() * 2**-10
    elif format in MX:
        decoded, bound = weights.values, w_up.abs() * 2**-4 if format == "mxfp8" else w_up.abs().max() / 3
        bound = bound + w_up.abs().max() * 2**-17
    else:
        decoded, bound = weights.values / weights.divisor, w_up.abs().max() / 5
    assert bool(((decoded - w_up).abs() <= bound).all())


@pytest.mark.parametrize("clip", [0.5, 1.0])
@pytest.mark.parametrize("format", ["fp8", "nvfp4"])  # a power of two hits no share of a value
def test_a_clipped_blocks_largest_value_decodes_to_that_share_of_it(monkeypatch, format, clip):
    (x_TD, *_), _ = drawn("relu2")
    rows, _ = operands(monkeypatch, replace(Quantization.recipe(format), clip=clip))["up"]
    block = precision(format).quantization.block
    values = rows.values.abs() * (rows.scale.repeat_interleave(block, 1) if format == "fp8" else 1 / rows.divisor)
    token, column = divmod(int(x_TD.abs().argmax()), x_TD.shape[1])  # of all: its block has nvfp4's largest scale
    of_token = values[[int(i) for i in torch.nonzero(rows_of(token))], column]
    torch.testing.assert_close(of_token, torch.full_like(of_token, clip * float(x_TD.abs().max())), rtol=1e-2, atol=0)


def rows_of(token):
    """Which slots of `drawn("relu2")` hold a token; padding slots hold token 0."""
    (_, w_up, _, expert_TK, _), _ = drawn("relu2")
    return segments(expert_TK, w_up.shape[0]).token_P == token


def backward_only(key_4, **dials):
    tensors, dy_TD = drawn("relu2")
    dials = replace(Quantization.recipe("nvfp4"), **dials)
    return run(tensors, dy_TD, activation="relu2", precision=precision(dials), key_4=torch.tensor(key_4))


@pytest.mark.parametrize("place", range(4), ids=["seed", "step", "first token", "layer"])
def test_stochastic_rounding_draws_by_each_part_of_the_key_and_in_the_backward_only(place):
    key_4 = [1, 2, 3, 4]
    other_4 = [part + (at == place) for at, part in enumerate(key_4)]
    y, *gradients = backward_only(key_4)
    y_other, *others = backward_only(other_4)
    assert torch.equal(y, y_other)
    assert [torch.equal(a, b) for a, b in zip(gradients, others)] == [False] * 4


def test_without_stochastic_rounding_the_key_changes_nothing():
    first, second = (backward_only(key_4, stochastic_rounding=False) for key_4 in ([1, 2, 3, 4], [5, 6, 7, 8]))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_stochastic_rounding_rounds_gradients_and_no_other_factor(monkeypatch):
    draws = [operands(monkeypatch, "nvfp4", key_4=torch.tensor([0, step, 0, 0])) for step in (1, 2)]
    for product in PRODUCTS:
        same = tuple(torch.equal(a.values, b.values) for a, b in zip(draws[0][product], draws[1][product]))
        # dX and dW up take dh, dW down dy; of its factors a and x neither draws, though a follows from no gradient at all
        assert same == {"dH": (False, True), "dX": (False, True)}.get(product, (True, not product.startswith("dW"))), product


def test_the_padding_of_weight_gradients_blocks_adds_nothing(monkeypatch):
    """Slots that no row fills are zero in both factors before the transform, so after it only their block holds sums."""
    dials = replace(Quantization.recipe("nvfp4"), hadamard=False)
    (_, w_up, _, expert_TK, _), _ = drawn("relu2")
    padding_P = segments(expert_TK, w_up.shape[0]).row_P == expert_TK.numel()
    seen = operands(monkeypatch, dials)
    assert bool(padding_P.any())
    assert not any(operand.values[padding_P].any() for name in ("dW up", "dW down") for operand in seen[name])


def test_blocks_of_fp8_weight_gradients_are_128_rows_of_one_expert_of_which_the_last_may_be_short(monkeypatch):
    seen = watch_products(monkeypatch)
    tensors, dy_TD = drawn("relu2", tokens=300, experts=3, top_k=1, kind="two experts")
    run(tensors, dy_TD, activation="relu2", precision=precision(Quantization("fp8", fp8_weight_gradients=True), "emulated"))
    x_TD, expert_T = tensors[0].bfloat16().float(), tensors[3][:, 0]
    scale, lengths = seen[4][0].scale, []  # of x, for each 16 rows
    for expert, start, end in segments(tensors[3], 3).bounds:
        of_expert = x_TD[expert_T == expert]
        for first in range(0, end - start, 128):
            block = of_expert[first : first + 128]
            here = scale[(start + first) // 16 : min(start + first + 128, end) // 16]
            assert torch.equal(here, (block.abs().amax(0) / torch.tensor(448.0)).expand_as(here))
            lengths.append(len(block))
    assert sum(lengths) == 300 and lengths.count(128) == 2 and len(lengths) == 4


PLANTED = {  # where a value that is not finite is put: what the error names
    "x": "input", "w_up": "weight_up", "w_down": "weight_down", "weight": "hidden", "dy": "gradient",
}  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("where", PLANTED)
def test_a_value_that_is_not_finite_names_layer_tensor_and_step(where, format, value):
    tensors, dy_TD = drawn("relu2")
    named = dict(zip(("x", "w_up", "w_down", "expert", "weight", "dy"), (*tensors, dy_TD)))
    named[where].view(-1)[3] = value
    words = dict(activation="relu2", precision=precision(format), key_4=torch.tensor([1, 41, 0, 2]))
    with pytest.raises(NonFiniteOperand, match=f"layer 2, {PLANTED[where]}: values that are not finite, at step 42") as caught:
        run(tensors, dy_TD, **words)
    assert (caught.value.layer, caught.value.tensor, caught.value.step) == (2, PLANTED[where], 41)


def test_an_operand_that_stays_bf16_enters_no_quantizer():
    tensors, dy_TD = drawn("relu2")
    tensors[0][3, 7] = float("nan")
    dials = Quantization("fp8", keep=("input", "hidden", "gradient"))
    y_TD, *_ = run(tensors, dy_TD, activation="relu2", precision=precision(dials))
    assert y_TD.isnan().any(1).tolist() == [token == 3 for token in range(len(y_TD))]
