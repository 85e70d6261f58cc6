"""Precision and gains in a model: which modules quantize, what a gain multiplies, one FFN written once."""

import copy

import pytest
import torch
from expert_inputs import relative_error

from harness.model.feedforward import Dense, Experts
from harness.model.init import initialize
from harness.model.precision import Precisions
from harness.model.transformer import Transformer
from harness.model.where import Where
from harness.plan.schema import Gains, Init, Model, Precision
from kernels import Arithmetic, Quantization, moe_mlp

FULL = Arithmetic.of("full")
# a dense layer, then two of 4 experts with a shared one
SHAPE = dict(
    width=32, layers=3, heads=2, sequence_length=12, vocab_size=31, ffn_width=48, num_experts=4, expert_width=16, top_k=2,
    shared_experts=1, leading_dense_layers=1,
)  # fmt: skip
DENSE = dict(width=32, layers=2, heads=2, sequence_length=12, vocab_size=31, ffn_width=48)


def build(shape=SHAPE, gains=None, **dials):
    """A model whose head and outputs are not zero, so that every part has a say."""
    precision = Precisions(FULL, Precision(**({"format": "nvfp4"} | dials)))
    model = Transformer(Model(**shape), precision, "torch", gains=Gains(**(gains or {})))
    initialize(model, Init(zero_output=False), 1)
    with torch.no_grad():
        model.head.weight.normal_(0, 0.25, generator=torch.Generator().manual_seed(1))
    return model


def batch():
    draws = torch.Generator().manual_seed(0)
    return tuple(torch.randint(31, (4, 12), generator=draws) for _ in range(2))


def forward(model, token_BS, target_BS):
    return model(Where(token_BS), target_BS)


def quantizing(model):
    """Names of the modules that quantize."""
    return {
        name.removeprefix("blocks.").replace(".feedforward", "")
        for name, module in model.named_modules()
        if isinstance(module, (Dense, Experts)) and module.precision.quantization
    }


@pytest.mark.parametrize(
    "dials, expected",
    [
        (dict(), {"0", "1", "1.shared", "2", "2.shared"}),
        (dict(scope="routed"), {"1", "2"}),
        (dict(high_precision_layers=[0, 2]), {"1", "1.shared"}),
        (dict(scope="routed", high_precision_layers=[2]), {"1"}),
        (dict(format="bf16"), set()),
        (dict(format="fp32"), set()),
    ],
)
def test_scope_and_high_precision_layers_choose_the_modules(dials, expected):
    model = build(**dials)
    assert quantizing(model) == expected
    with_key = {name for name, _ in model.named_buffers() if name.endswith("key_4")}
    assert with_key == {f"blocks.{name}.key_4".replace(name[0], f"{name[0]}.feedforward", 1) for name in expected}


def test_high_precision_layers_of_all_give_the_bits_of_bf16():
    kept, plain = build(DENSE, high_precision_layers=[0, 1]), build(DENSE, format="bf16")
    assert torch.equal(forward(kept, *batch()).nats_BS, forward(plain, *batch()).nats_BS)
    assert not torch.equal(forward(build(DENSE, high_precision_layers=[0]), *batch()).nats_BS, forward(plain, *batch()).nats_BS)


def test_dials_of_the_plan_become_dials_of_the_kernels_and_auto_the_recipe():
    def dials(**words):
        return build(**words).blocks[1].feedforward.precision.quantization

    assert dials() == Quantization.recipe("nvfp4")
    turned = dict(stochastic_rounding="off", hadamard="off", weight_blocks="1d", clip=0.9)
    kept = ["weight", "gradient"]
    assert dials(**turned, high_precision_operands=kept) == Quantization(
        "nvfp4", False, False, "1d", 0.9, ("gradient", "weight")
    )
    assert dials(stochastic_rounding="on", hadamard="on", weight_blocks="2d") == Quantization("nvfp4", True, True, "2d")
    assert dials(format="fp8", weight_gradients="quantized") == Quantization("fp8", fp8_weight_gradients=True)
    assert not dials(format="fp8").quantizes("weight_gradient") and dials().quantizes("weight_gradient")
    scales = {scale: dials(tensor_scale=scale).tensor_scale for scale in ("auto", "layer", "expert")}
    assert scales == {"auto": "layer", "layer": "layer", "expert": "expert"}


def test_keys_hold_the_layer_and_move_with_training_and_no_checkpoint_holds_them():
    model = build()
    model.at(7, 3, 64)
    keys = {name: key_4.tolist() for name, key_4 in model.named_buffers() if name.endswith("key_4")}
    assert all(key_4[:3] == [7, 3, 64] for key_4 in keys.values())
    assert [key_4[3] for key_4 in keys.values()] == [0, 1, 1, 2, 2]
    assert not any("key_4" in name for name in model.state_dict())


@pytest.mark.parametrize("activation", ["relu2", "swiglu"])
def test_a_dense_ffn_below_bf16_is_the_expert_mlp_with_one_expert(activation):
    dense = build(DENSE | dict(activation=activation)).blocks[1].feedforward
    x_TD = torch.randn(10, 32, generator=torch.Generator().manual_seed(2))
    expected = moe_mlp(
        x_TD, dense.up[None], dense.down[None], torch.zeros(10, 1, dtype=torch.int64), torch.ones(10, 1),
        activation=activation, precision=dense.precision, key_4=dense.key_4,
    )  # fmt: skip
    found, routing = dense(x_TD, None)
    assert torch.equal(found, expected) and routing is None
    ours, theirs = (torch.autograd.grad(y.square().sum(), [dense.up, dense.down]) for y in (found, expected))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


@pytest.mark.parametrize("scope", ["ffn", "routed"])
def test_shared_experts_are_added_in_the_precision_of_their_scope(scope):
    experts = build(scope=scope).blocks[1].feedforward
    x_TD = torch.randn(10, 32, generator=torch.Generator().manual_seed(2))
    whole, _ = experts(x_TD, Where(torch.zeros(2, 5, dtype=torch.int64)))
    shared, experts.shared = experts.shared, None
    routed, _ = experts(x_TD, Where(torch.zeros(2, 5, dtype=torch.int64)))
    assert torch.equal(whole, routed + shared(x_TD, None)[0])
    plain = torch.relu(x_TD @ shared.up).square() @ shared.down
    error = relative_error(shared(x_TD, None)[0].detach(), plain.detach())
    assert error < 1e-6 if scope == "routed" else 1e-2 < error < 0.5


def scaled(model, names, factor):
    """A copy with parameters scaled by a power of two, which changes no other bit."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            if name.endswith(names):
                parameter.mul_(factor)
    return copied


@pytest.mark.parametrize(
    "gain, names", [("embedding", ("embedding",)), ("logits", ("head.weight",)), ("expert_output", ("feedforward.down",))]
)
@pytest.mark.parametrize("format", ["bf16", "nvfp4"])
def test_a_gain_multiplies_what_it_names_as_scaled_weights_would(format, gain, names):
    """In nvfp4 too: a power of two moves the tensor scale of the weights and no code. The dense layer 0 has no experts."""
    shape = SHAPE | dict(leading_dense_layers=0)
    gained, plain = (build(shape, gains=gains, format=format) for gains in ({gain: 0.25}, {}))
    expected = scaled(plain, names, 0.25).logits(batch()[0])
    torch.testing.assert_close(gained.logits(batch()[0]), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(expected, plain.logits(batch()[0]), rtol=1e-2)


def test_the_expert_output_gain_leaves_dense_layers_and_shared_experts_alone():
    gained, plain = build(gains=dict(expert_output=4.0), format="bf16"), build(format="bf16")
    x_TD, token_BS = torch.randn(10, 32, generator=torch.Generator().manual_seed(2)), torch.zeros(2, 5, dtype=torch.int64)
    ours, theirs = (model.blocks[0].feedforward(x_TD, Where(token_BS))[0] for model in (gained, plain))
    assert torch.equal(ours, theirs)
    ours, theirs = (model.blocks[1].feedforward(x_TD, Where(token_BS))[0] for model in (gained, plain))
    shared = plain.blocks[1].feedforward.shared(x_TD, None)[0]
    torch.testing.assert_close(ours - shared, 4 * (theirs - shared), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", ["bf16", "nvfp4"])
def test_gains_of_one_change_no_bits(format):
    results = []
    for gains in ({}, dict(embedding=1.0, logits=1.0, expert_output=1.0)):
        model = build(gains=gains, format=format)
        loss = forward(model, *batch()).nats_BS.mean()
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    assert all(torch.equal(a, b) for a, b in zip(*results))
