"""Orthogonalization and the update built on it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.optim.optimizers import muon as muon_module
from harness.optim.optimizers.muon import Muon
from harness.optim.polar import orthogonalize
from harness.plan.parts.optim.muon import Keys as MuonPlan


def matrices(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def singular_values(stack_NIO):
    return torch.linalg.svdvals(stack_NIO.double())


@settings(deadline=None, max_examples=60)
@given(
    short=st.integers(1, 24), ratio=st.integers(2, 5), tall=st.booleans(), count=st.integers(1, 3), seed=st.integers(0, 2**31)
)
def test_singular_values_of_oblong_matrices_land_near_one(short, ratio, tall, count, seed):
    g_NIO = matrices(count, short * ratio + 1, short, seed=seed)
    values = singular_values(orthogonalize(g_NIO if tall else g_NIO.mT, 5))
    assert 0.6 <= values.min() and values.max() <= 1.3


@pytest.mark.parametrize("size", [16, 64, 128])
@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_singular_values_of_square_matrices_land_near_one_whatever_their_scale(size, spread, scale):
    u, v = (torch.linalg.qr(matrices(size, size, seed=seed).double()).Q for seed in (1, 2))
    g = (u * torch.logspace(0, torch.tensor(spread).log10().item(), size, dtype=torch.float64)) @ v.T * scale
    values = singular_values(orthogonalize(g.float().unsqueeze(0), 5))
    assert 0.6 <= values.min() and values.max() <= 1.3


def test_singular_vectors_are_kept():
    """The polar factor: x^T u v^T is symmetric and positive."""
    g_NIO = matrices(1, 40, 12)
    product = g_NIO[0].double().T @ orthogonalize(g_NIO, 5)[0].double()
    torch.testing.assert_close(product, product.T, rtol=1e-3, atol=1e-3)
    assert torch.linalg.eigvalsh(product).min() > 0


@pytest.mark.parametrize("shape", [(5, 12, 12), (4, 9, 30), (4, 30, 9)])
def test_a_stack_equals_its_matrices_one_by_one(shape):
    g_NIO = matrices(*shape)
    one_by_one = torch.cat([orthogonalize(g.unsqueeze(0), 5) for g in g_NIO])
    torch.testing.assert_close(orthogonalize(g_NIO, 5), one_by_one, rtol=1e-4, atol=1e-5)


def test_a_transposed_matrix_gives_the_transposed_result():
    g_NIO = matrices(2, 8, 20)
    torch.testing.assert_close(orthogonalize(g_NIO.mT, 5), orthogonalize(g_NIO, 5).mT, rtol=1e-4, atol=1e-5)


def test_a_zero_gradient_gives_a_zero_update():
    assert not orthogonalize(torch.zeros(2, 4, 6), 5).any()


def muon(shapes, plan=None, multipliers=None, seed=0):
    parameters = {name: nn.Parameter(matrices(*shape, seed=seed)) for name, shape in shapes.items()}
    for number, p in enumerate(parameters.values()):
        p.grad = matrices(*p.shape, seed=100 + number)
    return Muon(parameters, multipliers or dict.fromkeys(shapes, 1.0), plan or MuonPlan()), parameters


@pytest.mark.parametrize("shape, gain", [((6, 24), 2.0), ((24, 6), 1.0), ((3, 6, 24), 2.0), ((3, 24, 6), 1.0), ((8, 8), 1.0)])
def test_the_first_update_is_the_scaled_orthogonal_gradient(shape, gain):
    optimizer, parameters = muon({"w": shape}, MuonPlan(lr=0.1))
    before, gradient = parameters["w"].detach().clone(), parameters["w"].grad.clone()
    optimizer.step(0.5)
    expected = -0.1 * 0.5 * gain * orthogonalize(gradient.view(-1, *shape[-2:]), 5).view(shape)
    torch.testing.assert_close(parameters["w"].detach() - before, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(parameters["w"].grad, gradient)


def test_momentum_is_nesterov():
    optimizer, parameters = muon({"w": (6, 10)}, MuonPlan(lr=1.0, momentum=0.9))
    first, second = parameters["w"].grad.clone(), matrices(6, 10, seed=9)
    optimizer.step(1.0)
    before = parameters["w"].detach().clone()
    parameters["w"].grad = second.clone()
    optimizer.step(1.0)
    momentum = 0.9 * (0.1 * first) + 0.1 * second
    expected = -((10 / 6) ** 0.5) * orthogonalize((0.1 * second + 0.9 * momentum).unsqueeze(0), 5)[0]
    torch.testing.assert_close(parameters["w"].detach() - before, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(optimizer.state()["muon.momentum.w"], momentum)


def test_parameters_of_one_shape_move_as_if_alone():
    shapes = {"a": (6, 10), "b": (2, 6, 10), "c": (10, 6), "d": (6, 10)}
    together, parameters = muon(shapes)
    together.step(1.0)
    for number, (name, shape) in enumerate(shapes.items()):
        alone, single = muon({name: shape})
        single[name].grad = matrices(*shape, seed=100 + number)
        alone.step(1.0)
        torch.testing.assert_close(parameters[name], single[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 3, 5])
def test_matrices_move_alike_however_many_are_iterated_at_a_time(at_once, monkeypatch):
    def moved() -> list[torch.Tensor]:
        parameters = {name: nn.Parameter(matrices(*shape, seed=1)) for name, shape in (("a", (7, 6, 4)), ("b", (6, 4)))}
        muon = Muon(parameters, dict.fromkeys(parameters, 1.0), MuonPlan(weight_decay=0.1))
        for step in range(2):
            for p in parameters.values():
                p.grad = matrices(*p.shape, seed=2 + step)
            muon.step(1.0)
        return [p.detach() for p in parameters.values()]

    together = moved()
    monkeypatch.setattr(muon_module, "AT_ONCE", at_once)
    seen = []
    monkeypatch.setattr(muon_module, "orthogonalize", lambda g, *rest: seen.append(len(g)) or orthogonalize(g, *rest))
    for found, expected in zip(moved(), together):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert max(seen) <= at_once and sum(seen) == 2 * 8


def test_weight_decay_shrinks_by_rate_times_decay():
    optimizer, parameters = muon({"w": (4, 4)}, MuonPlan(lr=0.1, weight_decay=0.5), {"w": 2.0})
    parameters["w"].grad = torch.zeros(4, 4)
    before = parameters["w"].detach().clone()
    optimizer.step(1.0)
    torch.testing.assert_close(parameters["w"].detach(), before * (1 - 0.2 * 0.5))


def test_a_multiplier_scales_its_parameter_only():
    shapes = {"a": (6, 10), "b": (6, 10)}
    (plain, p), (scaled, q) = muon(shapes), muon(shapes, multipliers={"a": 1.0, "b": 3.0})
    start = {name: t.detach().clone() for name, t in p.items()}
    plain.step(1.0)
    scaled.step(1.0)
    assert torch.equal(p["a"], q["a"])
    torch.testing.assert_close(q["b"] - start["b"], 3 * (p["b"] - start["b"]), rtol=1e-4, atol=1e-6)


def test_bf16_iterations_stay_near_fp32_ones():
    g_NIO = torch.randn(3, 24, 48, generator=torch.Generator().manual_seed(5))
    exact, rounded = orthogonalize(g_NIO, 5), orthogonalize(g_NIO, 5, torch.bfloat16)
    assert rounded.dtype == torch.float32
    error = float((rounded - exact).norm() / exact.norm())
    assert 1e-4 < error < 0.05  # it rounds, and the polynomial does not blow the rounding up
