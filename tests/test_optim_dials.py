"""Muon's dials, Lion, Schedule-Free, SOAP: formulas by hand, experts as a batch of matrices, idle ones, state that resumes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.errors import UserError
from harness.optim.optimizers.lion import Lion
from harness.optim.optimizers.muon import Muon
from harness.optim.optimizers.schedule_free import ScheduleFree
from harness.optim.optimizers.soap import Soap
from harness.optim.polar import POLAR_EXPRESS, orthogonalize, polynomials
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.parts.optim import lion, muon, schedule_free, soap

OPTIMIZERS = {
    "muon": (Muon, muon.Keys()),
    "polar express": (Muon, muon.Keys(iteration="polar-express")),
    "gram": (Muon, muon.Keys(form="gram")),
    "outputs": (Muon, muon.Keys(neurons="outputs")),
    "inputs": (Muon, muon.Keys(neurons="inputs")),
    "cautious": (Muon, muon.Keys(cautious=True, weight_decay=0.1)),
    "rising": (Muon, muon.Keys(start_momentum=0.5, start_steps=3)),
    "moving": (Muon, muon.Keys(idle="moves")),
    "lion": (Lion, lion.Keys()),
    "schedule-free": (ScheduleFree, schedule_free.Keys()),
    "soap": (Soap, soap.Keys(every=2)),
}
EVERY = pytest.mark.parametrize("name", OPTIMIZERS)


def matrices(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(name, shapes, gradients, steps=5, **keys):
    """Parameters after steps with `gradients(step, name, shape)`, and the optimizer."""
    kind, usual = OPTIMIZERS[name]
    parameters = {key: nn.Parameter(matrices(*shape, seed=number)) for number, (key, shape) in enumerate(shapes.items())}
    optimizer = kind(parameters, dict.fromkeys(shapes, 1.0), replace(usual, **keys))
    for step in range(steps):
        for key, p in parameters.items():
            p.grad = gradients(step, key, p.shape)
        optimizer.step(1.0)
    return {key: p.detach() for key, p in parameters.items()}, optimizer


def drawn(step, key, shape):
    return matrices(*shape, seed=100 + 7 * step)


@EVERY
def test_experts_are_matrices_of_their_own(name):
    """Each of a stack moves as it would alone, though one has gradients a hundred times as large."""
    size_N11 = torch.tensor([1.0, 100.0, 1.0]).view(3, 1, 1)

    def of_stack(step, key, shape):
        return size_N11 * matrices(3, 6, 10, seed=100 + 7 * step)

    together, _ = trained(name, {"w": (3, 6, 10)}, of_stack)
    start = matrices(3, 6, 10)
    for expert in range(3):
        kind, keys = OPTIMIZERS[name]
        p = nn.Parameter(start[expert].clone())
        alone = kind({"w": p}, {"w": 1.0}, keys)
        for step in range(5):
            p.grad = of_stack(step, "w", None)[expert]
            alone.step(1.0)
        torch.testing.assert_close(together["w"][expert], p.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("lion", "schedule-free", "soap", "cautious")])
def test_every_experts_update_is_near_orthogonal_though_one_has_a_hundredfold_gradient(name):
    size_N11 = torch.tensor([1.0, 100.0, 1.0]).view(3, 1, 1)
    after, _ = trained(name, {"w": (3, 12, 24)}, lambda *_: size_N11 * matrices(3, 12, 24, seed=5), steps=1, lr=1.0)
    update = (after["w"] - matrices(3, 12, 24)) / 2**0.5
    values = torch.linalg.svdvals(update.double())
    assert 0.5 <= float(values.min()) and float(values.max()) <= 1.4


@pytest.mark.parametrize("name", ["muon", "outputs", "cautious", "lion"])
def test_an_expert_without_tokens_rests(name):
    def gradients(step, key, shape):
        found = drawn(step, key, shape)
        if step >= 2:
            found[1] = 0.0
        return found

    keys = {"weight_decay": 0.0, "cautious": False} if name == "cautious" else {}
    at, later = (trained(name, {"w": (3, 6, 10)}, gradients, steps, **keys)[0]["w"] for steps in (2, 8))
    assert torch.equal(at[1], later[1]) and not torch.equal(at[0], later[0])


def test_under_the_dial_an_expert_without_tokens_moves_on_at_full_speed():
    def gradients(step, key, shape):
        found = drawn(step, key, shape)
        if step >= 2:
            found[1] = 0.0
        return found

    places = [trained("moving", {"w": (3, 6, 10)}, gradients, steps)[0]["w"] for steps in (20, 21)]
    moved = (places[1] - places[0]).norm(dim=(1, 2))
    assert float(moved[1]) > 0.8 * float(moved[0])


@EVERY
def test_a_run_that_was_parted_has_the_bits_of_a_whole_one(name):
    whole, _ = trained(name, {"w": (2, 6, 10), "v": (8, 4)}, drawn, 6)
    half, first = trained(name, {"w": (2, 6, 10), "v": (8, 4)}, drawn, 3)
    kind, keys = OPTIMIZERS[name]
    parameters = {key: nn.Parameter(p.clone()) for key, p in half.items()}
    second = kind(parameters, dict.fromkeys(parameters, 1.0), keys)
    state, saved = second.state(), first.state()
    assert state.keys() == saved.keys()
    with torch.no_grad():
        for key, tensor in state.items():
            tensor.copy_(saved[key])
    for step in range(3, 6):
        for key, p in parameters.items():
            p.grad = drawn(step, key, p.shape)
        second.step(1.0)
    assert all(torch.equal(parameters[key].detach(), whole[key]) for key in whole)


@EVERY
def test_scoring_in_between_changes_no_bit_of_training(name):
    plain, _ = trained(name, {"w": (2, 6, 10)}, drawn, 6)
    kind, keys = OPTIMIZERS[name]
    p = nn.Parameter(matrices(2, 6, 10))
    optimizer = kind({"w": p}, {"w": 1.0}, keys)
    for step in range(6):
        optimizer.for_scoring()
        optimizer.for_training()
        p.grad = drawn(step, "w", p.shape)
        optimizer.step(1.0)
    assert torch.equal(p.detach(), plain["w"])


def test_polar_express_brings_singular_values_nearer_to_one():
    g = matrices(4, 32, 64, seed=3)
    spread = {}
    for name in ("quintic", "polar-express"):
        values = torch.linalg.svdvals(orthogonalize(g, polynomials(name, 5)).double())
        spread[name] = float((values - 1).abs().max())
    assert spread["polar-express"] < 0.15 < spread["quintic"] < 0.4


def test_polar_express_divides_by_its_safety_once():
    """As published: X / (1.02 |X|), then its polynomials as they are."""
    x = matrices(1, 8, 16, seed=4)
    expected = (x / (1.02 * x.norm()))[0].double()
    for a, b, c in POLAR_EXPRESS:
        gram = expected @ expected.T
        expected = a * expected + (b * gram + c * gram @ gram) @ expected
    torch.testing.assert_close(orthogonalize(x, polynomials("polar-express", 5))[0].double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("neurons, axis", [("outputs", 0), ("inputs", 1)])
def test_a_neurons_update_is_divided_by_its_own_size_and_keeps_the_norm_of_the_whole(neurons, axis):
    after, optimizer = trained("muon", {"w": (6, 10)}, drawn, 1, neurons=neurons, beta2=0.0, lr=1.0)
    plain, _ = trained("muon", {"w": (6, 10)}, drawn, 1, lr=1.0)
    start = matrices(6, 10)
    evened, update = after["w"] - start, plain["w"] - start
    sizes = evened.square().mean(axis)
    torch.testing.assert_close(sizes, sizes.mean().expand_as(sizes), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(evened.norm(), update.norm(), rtol=1e-4, atol=1e-6)
    assert optimizer.state()["muon.second.w"].shape == ((1, 1, 10) if neurons == "outputs" else (1, 6, 1))


def test_cautious_decay_shrinks_what_the_update_shrinks_too():
    start = matrices(6, 10)
    plain, cautious = (
        trained("muon", {"w": (6, 10)}, drawn, 1, weight_decay=0.5, lr=0.1, cautious=on)[0]["w"] for on in (0, 1)
    )
    bare = trained("muon", {"w": (6, 10)}, drawn, 1, lr=0.1)[0]["w"]
    shrinks = (bare - start) * start <= 0
    torch.testing.assert_close(cautious, torch.where(shrinks, plain, bare))
    assert 0 < int(shrinks.sum()) < 60


def test_the_momentum_rises_by_steps():
    _, optimizer = trained("rising", {"w": (4, 4)}, drawn, 0)
    assert [round(optimizer._momentum(), 6) for _ in range(5)] == [0.5, 0.65, 0.8, 0.95, 0.95]


def test_lion_by_hand():
    p = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = Lion({"w": p}, {"w": 2.0}, lion.Keys(lr=0.1, beta1=0.5, beta2=0.9, weight_decay=0.1))
    momentum, expected = torch.zeros(3), p.detach().clone()
    for gradient in (torch.tensor([1.0, -1.0, 0.5]), torch.tensor([-0.05, 2.0, -0.1])):
        p.grad = gradient.clone()
        optimizer.step(0.5)
        expected = expected - 0.1 * (torch.sign(0.5 * momentum + 0.5 * gradient) + 0.1 * expected)
        momentum = 0.9 * momentum + 0.1 * gradient
    torch.testing.assert_close(p.detach(), expected)


def test_schedule_free_scores_the_mean_of_its_iterates():
    """With a constant rate and beta2 = 0, whose correction is 1, steps weigh alike: x is their plain mean."""
    p = nn.Parameter(torch.tensor([1.0, -1.0]))
    optimizer = ScheduleFree({"w": p}, {"w": 1.0}, schedule_free.Keys(lr=0.1, beta1=0.9, beta2=0.0))
    iterates, z = [], p.detach().clone()
    for step in range(4):
        p.grad = torch.tensor([1.0, -2.0]) * (step + 1)
        z = z - 0.1 * p.grad / (p.grad.abs() + 1e-8)
        iterates.append(z)
        optimizer.step(1.0)
        mean = torch.stack(iterates).mean(0)
        torch.testing.assert_close(p.detach(), 0.1 * z + 0.9 * mean)
        optimizer.for_scoring()
        torch.testing.assert_close(p.detach(), mean)
        optimizer.for_training()


def test_soap_skips_its_first_step_and_its_bases_stay_orthogonal():
    after, optimizer = trained("soap", {"w": (2, 6, 10)}, drawn, 1)
    assert torch.equal(after["w"], matrices(2, 6, 10))
    _, optimizer = trained("soap", {"w": (2, 6, 10)}, drawn, 9)
    for name in ("left", "right"):
        basis = optimizer.state()[f"soap.{name}_basis.w"].double()
        identity = torch.eye(basis.shape[-1], dtype=torch.float64).expand_as(basis)
        torch.testing.assert_close(basis.mT @ basis, identity, rtol=0, atol=1e-5)


def test_soap_begins_each_matrix_at_its_own_first_gradient_as_if_it_had_been_alone_until_then():
    late = torch.tensor([0.0, 1.0]).view(2, 1, 1)

    def first_one_idle(step, key, shape):
        return drawn(step, key, shape) * (late if step < 2 else 1)

    def later(step, key, shape):
        return drawn(step + 2, key, (2, 6, 10))[0]

    together, optimizer = trained("soap", {"w": (2, 6, 10)}, first_one_idle, 2, weight_decay=0.1)
    assert torch.equal(together["w"][0], matrices(2, 6, 10)[0]) and not torch.equal(together["w"][1], matrices(2, 6, 10)[1])
    together, _ = trained("soap", {"w": (2, 6, 10)}, first_one_idle, 8, weight_decay=0.1)
    kind, keys = OPTIMIZERS["soap"]
    p = nn.Parameter(matrices(2, 6, 10)[0].clone())
    alone = kind({"w": p}, {"w": 1.0}, replace(keys, weight_decay=0.1))
    for step in range(6):
        p.grad = later(step, "w", None)
        alone.step(1.0)
    torch.testing.assert_close(together["w"][0], p.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "words, said",
    [
        (["optim.muon.iteration=polar-express", "optim.muon.newton_schulz_steps=4"], "newton_schulz_steps=4"),
        (["optim.muon.iteration=polar-express", "optim.muon.expert_steps=4"], "expert_steps=4"),
        (["optim.muon.cautious=true"], "nothing decays"),
        (["optim.muon.start_momentum=0.99"], "is above optim.muon.momentum"),
        (["optim.matrices=schedule_free", "optim.others=schedule_free"], "schedule.decay_share=0.4"),
        (["optim.others=soap"], "optim.others=soap"),
    ],
)
def test_what_does_not_go_together_is_refused(words, said):
    with pytest.raises(UserError) as error:
        compose(["lane=tiny-moe-16e", *words])
    assert said in error.value.problem and error.value.remedy


def test_expert_steps_of_a_dense_lane_are_refused():
    with pytest.raises(UserError, match="expert_steps=4 with model.num_experts=0"):
        compose(["lane=tiny-dense", "optim.muon.expert_steps=4"])


def test_dials_at_their_defaults_leave_the_hash_and_turned_they_do_not():
    plain = plan_hash(compose(["lane=tiny-moe-16e"]).plan)
    usual = "expert_steps=0 iteration=quintic form=direct neurons=off cautious=false start_momentum=0 idle=rests"
    turned = "expert_steps=4 iteration=polar-express form=gram neurons=outputs start_momentum=0.85 idle=moves"
    for words, same in ((usual, True), (turned, False)):
        for word in words.split():
            assert (plan_hash(compose(["lane=tiny-moe-16e", f"optim.muon.{word}"]).plan) == plain) == same, word
