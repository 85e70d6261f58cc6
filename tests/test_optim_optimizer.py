"""All optimizers behind one step: groups, multipliers, clipping, state, telemetry; and the balancing bias."""

from dataclasses import replace

import pytest
import torch

import harness.optim.norms
from harness.model.init import initialize
from harness.model.part import Own
from harness.model.transformer import Transformer
from harness.model.where import Where
from harness.optim.balance import update_biases
from harness.optim.groups import group_parameters
from harness.optim.optimizer import Optimizer
from harness.plan import parts
from harness.plan.parts.optim import adamw, muon
from harness.plan.schema import Init, Model, Multipliers, Optim
from kernels import Arithmetic

SHAPE = dict(
    width=16, layers=3, heads=2, sequence_length=8, vocab_size=19, ffn_width=24, num_experts=4, expert_width=8, top_k=2,
    shared_experts=1, leading_dense_layers=1, norm_weight=True,
)  # fmt: skip
GROUPS = ("dense", "expert", "router", "embedding", "head", "norm")


def build(**changes):
    model = Transformer(Model(**SHAPE | changes), Arithmetic.of("full"), "torch")
    initialize(model, Init(zero_output=False), 1)
    with torch.no_grad():
        model.head.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return model


def backward(model, seed=0):
    draws = torch.Generator().manual_seed(seed)
    token_BS, target_BS = (torch.randint(19, (3, 8), generator=draws) for _ in range(2))
    output = model(Where(token_BS), target_BS)
    output.nats_BS.mean().backward()
    return output


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    "changes", [{}, dict(router="hash"), dict(num_experts=0, top_k=0, shared_experts=0, leading_dense_layers=0)]
)
def test_every_parameter_is_in_exactly_one_group(changes):
    model = build(**changes)
    grouped = [name for group in group_parameters(model).values() for name in group]
    assert sorted(grouped) == sorted(name for name, _ in model.named_parameters())
    assert set(group_parameters(model)) <= set(GROUPS)


def test_groups_hold_what_their_name_says():
    groups = group_parameters(build())
    assert {group: len(names) for group, names in groups.items()} == {
        "embedding": 1,
        "head": 1,
        "norm": 7,
        "router": 2,
        "expert": 4,
        "dense": 3 * 4 + 2 + 2 * 2,  # attention, the dense layer, the shared experts
    }
    assert all(name.endswith(("feedforward.up", "feedforward.down")) and p.ndim == 3 for name, p in groups["expert"].items())
    assert not any("router" in name or "norm" in name or p.ndim != 2 for name, p in groups["dense"].items())


@pytest.mark.parametrize("where", ["head", "blocks.0.attention", "blocks.1.feedforward.router", "blocks.2.attention_norm"])
def test_a_parameter_that_no_part_declares_is_refused_by_name_and_never_updated_by_default(where):
    model = build()
    model.get_submodule(where).register_parameter("scale", torch.nn.Parameter(torch.ones(16, 16)))
    with pytest.raises(ValueError, match=rf"no part declares the parameter {where}.scale \(16, 16\)") as caught:
        Optimizer(model, Optim())
    assert "OWN" in str(caught.value)


@pytest.mark.parametrize("own, shape", [(Own("dense", "ones"), (16, 16)), (Own("norm"), (16,))])
def test_a_parameter_that_cannot_start_as_its_part_says_is_refused(own, shape, monkeypatch):
    model = build()
    monkeypatch.setattr(type(model.head), "OWN", {**model.head.OWN, "scale": own})
    model.head.register_parameter("scale", torch.nn.Parameter(torch.ones(*shape)))
    with pytest.raises(ValueError, match="head.scale .* cannot start as"):
        initialize(model, Init(), 1)


def test_a_rate_is_told_of_optimizers_that_are_known_and_have_one():
    known = {"optim.matrices": "muon", "optim.others": "signs"}
    assert parts.learning_rate(known, "expert") == ("optim.muon.lr", 0.02)
    assert parts.learning_rate(known, "head") is None  # of a folder of parts that is not here


@pytest.mark.parametrize("matrices, by_muon", [("muon", {"dense", "expert"}), ("adamw", set())])
def test_muon_updates_matrices_and_experts_and_adamw_the_rest(matrices, by_muon):
    optimizer = Optimizer(build(), Optim(matrices=matrices))
    state = optimizer.state()
    for group, parameters in optimizer.groups.items():
        for name in parameters:
            assert (f"muon.momentum.{name}" in state) == (group in by_muon)
            assert (f"adamw.exp_avg.{name}" in state) == (group not in by_muon)


@pytest.mark.parametrize("matrices", ["muon", "adamw"])
@pytest.mark.parametrize("still", GROUPS)
def test_a_multiplier_of_zero_stops_its_group_and_no_other(still, matrices):
    model = build()
    optimizer = Optimizer(model, Optim(matrices=matrices, multipliers=replace(Multipliers(), **{still: 0.0})))
    before = weights(model)
    backward(model)
    optimizer.step(1.0)
    moved = {group for group, names in optimizer.groups.items() if any(not torch.equal(before[n], p) for n, p in names.items())}
    assert moved == set(GROUPS) - {still}


def test_adamw_steps_follow_the_rate_the_multiplier_and_the_scale():
    """AdamW's first step is lr x sign(gradient) where the gradient is far above eps."""
    model = build()
    optimizer = Optimizer(model, Optim(adamw=adamw.Keys(lr=0.01, eps=1e-12), multipliers=Multipliers(head=3.0)))
    before = weights(model)
    backward(model)
    optimizer.step(0.5)
    change = model.head.weight.detach() - before["head.weight"]
    torch.testing.assert_close(change, -0.01 * 3.0 * 0.5 * model.head.weight.grad.sign(), rtol=1e-3, atol=1e-6)


def test_adamw_decays_weights_apart_from_the_gradient():
    model = build()
    optimizer = Optimizer(model, Optim(adamw=adamw.Keys(lr=0.1, weight_decay=0.5)))
    before = weights(model)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step(0.5)
    torch.testing.assert_close(model.embedding.detach(), before["embedding"] * (1 - 0.1 * 0.5 * 0.5))


@pytest.mark.parametrize("matrices", ["muon", "adamw"])
def test_state_copied_by_name_resumes_with_the_same_bits(matrices):
    plan = Optim(matrices=matrices, muon=muon.Keys(weight_decay=0.1), adamw=adamw.Keys(weight_decay=0.1))

    def steps(model, optimizer, seeds):
        for seed in seeds:
            optimizer.clear_gradients()
            backward(model, seed)
            optimizer.step(0.7)

    straight = build()
    optimizer = Optimizer(straight, plan)
    steps(straight, optimizer, [0, 1])
    saved = {name: t.clone() for name, t in optimizer.state().items()}, straight.state_dict()
    resumed = build()
    resumed.load_state_dict(saved[1])
    other = Optimizer(resumed, plan)
    assert other.state().keys() == saved[0].keys()
    for name, tensor in other.state().items():
        tensor.copy_(saved[0][name])
    steps(straight, optimizer, [2, 3])
    steps(resumed, other, [2, 3])
    a, b = weights(straight), weights(resumed)
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_state_names_are_stable_from_the_first_step_on():
    model = build()
    optimizer = Optimizer(model, Optim())
    before = set(optimizer.state())
    backward(model)
    optimizer.step(1.0)
    assert set(optimizer.state()) == before


@pytest.mark.parametrize("clip_norm, expected", [(0.0, 5.0), (1.0, 1.0), (10.0, 5.0)])
def test_clip_bounds_the_joint_norm_and_keeps_the_direction(clip_norm, expected):
    model = build()
    optimizer = Optimizer(model, Optim(clip_norm=clip_norm))
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    whole = torch.cat([p.grad.flatten() for p in optimizer.parameters.values()])
    for p in model.parameters():
        p.grad *= 5.0 / whole.norm()
    norm = optimizer.gradient_norms().norm()
    assert norm.item() == pytest.approx(5.0, rel=1e-4)
    optimizer.clip(norm)
    clipped = torch.cat([p.grad.flatten() for p in optimizer.parameters.values()])
    torch.testing.assert_close(clipped, whole * (expected / whole.norm()), rtol=1e-4, atol=1e-6)


def test_gradient_norms_are_in_the_order_of_parameters():
    model = build()
    optimizer = Optimizer(model, Optim())
    for number, p in enumerate(optimizer.parameters.values()):
        p.grad = torch.full_like(p, (number + 1) / p.numel() ** 0.5)
    torch.testing.assert_close(optimizer.gradient_norms(), torch.arange(1.0, len(optimizer.parameters) + 1))


@pytest.mark.parametrize("matrices", ["muon", "adamw"])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_a_measured_step_returns_the_rms_of_gradient_update_and_parameter(matrices, chunk, monkeypatch):
    monkeypatch.setattr(harness.optim.norms, "CHUNK", chunk)
    plain, measured = build(), build()
    for model in (plain, measured):
        backward(model)
    before, gradients = weights(plain), {name: p.grad.clone() for name, p in plain.named_parameters()}
    Optimizer(plain, Optim(matrices=matrices)).step(0.5)
    optimizer = Optimizer(measured, Optim(matrices=matrices))
    report = optimizer.step_measured(0.5)
    after = weights(plain)
    assert all(torch.equal(after[name], p) for name, p in weights(measured).items())
    assert report.keys() == optimizer.groups.keys()

    def rms(tensors):
        return torch.cat([t.flatten() for t in tensors]).double().square().mean().sqrt().item()

    for group, names in optimizer.groups.items():
        expected = {
            "grad_rms": rms([gradients[n] for n in names]),
            "update_rms": rms([after[n] - before[n] for n in names]),
            "param_rms": rms([before[n] for n in names]),
        }
        assert report[group] == pytest.approx(expected, rel=1e-6)


def biases(model):
    return torch.stack([block.feedforward.router.bias for block in model.blocks[1:]])


def test_biases_rise_for_starved_experts_and_fall_for_crowded_ones():
    model = build()
    # mean 6: signs (+, -, 0, -), their mean -1/4; and one crowded of four: (-, +, +, +), mean 1/2
    update_biases(model, torch.tensor([[3, 8, 6, 7], [24, 0, 0, 0]]), 0.1)
    expected = torch.tensor([[0.125, -0.075, 0.025, -0.075], [-0.15, 0.05, 0.05, 0.05]])
    torch.testing.assert_close(biases(model), expected)


def test_equal_loads_leave_the_biases_alone():
    model = build()
    update_biases(model, torch.full((2, 4), 6), 0.1)
    assert not biases(model).any()


def test_the_sum_of_biases_stays_zero():
    model = build()
    draws = torch.Generator().manual_seed(0)
    for _ in range(500):
        update_biases(model, torch.randint(50, (2, 4), generator=draws), 0.02)
    assert biases(model).sum(1).abs().max() < 1e-5


def test_balancing_evens_out_a_fixed_batch():
    model = build()
    with torch.no_grad():
        loads = []
        for _ in range(200):
            token_BS = torch.arange(24).view(3, 8) % 19
            count_LE = model(Where(token_BS), token_BS).count_LE
            loads.append(count_LE.double().std(1, correction=0) / count_LE.double().mean(1))
            update_biases(model, count_LE, 0.01)
    assert (torch.stack(loads[-20:]).mean(0) < 0.5 * loads[0]).all()


def test_biases_are_out_of_reach_of_the_optimizer_and_of_autograd():
    model = build()
    optimizer = Optimizer(model, Optim(muon=muon.Keys(weight_decay=0.5), adamw=adamw.Keys(weight_decay=0.5)))
    update_biases(model, torch.tensor([[3, 8, 6, 7], [24, 0, 0, 0]]), 0.1)
    before = biases(model).clone()
    backward(model)
    optimizer.clip(optimizer.gradient_norms().norm())
    optimizer.step(1.0)
    assert torch.equal(biases(model), before)
    assert not biases(model).requires_grad
    assert not any("bias" in name for name in [*optimizer.parameters, *optimizer.state()])


def test_models_without_a_learned_router_have_no_biases_to_update():
    update_biases(build(router="hash"), torch.tensor([[3, 8, 6, 7]] * 2), 0.1)
