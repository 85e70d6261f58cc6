"""Muon's step in C++ beside the stacked one: both against an iteration in fp64."""

import pytest
import torch
from expert_inputs import BF16, relative_error
from torch import nn

from harness.optim.optimizers.muon import Muon
from harness.optim.polar import COEFFICIENTS
from harness.plan.parts.optim.muon import Keys
from kernels.cpu.brgemm import calls

DTYPES = (torch.float32, *((torch.bfloat16,) if BF16 else ()))
SHAPES = {
    "wide": (32, 96),
    "tall": (96, 32),
    "square": (64, 64),
    "stack": (3, 32, 96),
    "tall stack": (2, 160, 96),
    "large": (96, 160),
}
KEYS = Keys(lr=0.1, momentum=0.9, weight_decay=0.3)
MULTIPLIERS = dict.fromkeys(SHAPES, 1.0) | {"stack": 0.5}


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def drawn(shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(step, shapes=SHAPES):
    return {name: drawn(shape, 100 * step + number) for number, (name, shape) in enumerate(shapes.items())}


def stepped(backend, dtype, steps=3, keys=KEYS, shapes=SHAPES, change=lambda step, grads: None):
    """(weights, momenta) after `steps` steps from the same weights; `change` alters the gradients of a step in their place."""
    parameters = {name: nn.Parameter(drawn(shape, 7)) for name, shape in shapes.items()}
    optimizer = Muon(parameters, {name: MULTIPLIERS[name] for name in shapes}, keys, dtype)
    optimizer.backend = backend
    for step in range(steps):
        grads = gradients(step, shapes)
        change(step, grads)
        for name, p in parameters.items():
            p.grad = grads[name]
        optimizer.step(0.5)
    return {name: p.detach() for name, p in parameters.items()}, optimizer.momentum


def exactly(steps=3, keys=KEYS):
    """Weights after the same steps, matrix by matrix in fp64."""
    weights = {name: drawn(shape, 7).double() for name, shape in SHAPES.items()}
    momenta = {name: torch.zeros_like(w) for name, w in weights.items()}
    a, b, c = COEFFICIENTS
    for step in range(steps):
        for name, g in gradients(step).items():
            g, rate = g.double(), keys.lr * 0.5 * max(1.0, g.shape[-1] / g.shape[-2]) ** 0.5 * MULTIPLIERS[name]
            momenta[name] = keys.momentum * momenta[name] + (1 - keys.momentum) * g
            x = keys.momentum * momenta[name] + (1 - keys.momentum) * g
            x = x / x.norm(dim=(-2, -1), keepdim=True)
            for _ in range(keys.newton_schulz_steps):
                gram = x @ x.mT
                x = a * x + (b * gram + c * gram @ gram) @ x
            kept = 1 - keys.lr * 0.5 * MULTIPLIERS[name] * keys.weight_decay
            weights[name] = kept * weights[name] - rate * x
    return weights


@pytest.mark.parametrize("dtype", DTYPES)
def test_three_steps_are_as_near_to_fp64_as_stacked_ones(dtype):
    """Of what the weights moved by. The iteration spreads the rounding of its first products, which both have: of their errors
    none is a multiple of the other."""
    expected, start = exactly(), {name: drawn(shape, 7).double() for name, shape in SHAPES.items()}
    fused, stacked = stepped("brgemm", dtype)[0], stepped("torch", dtype)[0]
    for name, want in expected.items():
        ours, theirs = (relative_error(found[name].double() - start[name], want - start[name]) for found in (fused, stacked))
        assert ours <= 1.5 * theirs, name


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernel_computes_every_shape_that_it_takes(dtype, monkeypatch):
    names = []
    original = calls._call
    monkeypatch.setattr(calls, "_call", lambda *arguments: names.append(arguments[0]) or original(*arguments))
    stepped("brgemm", dtype, steps=1)
    assert names == ["muon"] * len({shape[-2:] for shape in SHAPES.values()})


@pytest.mark.parametrize("dtype", DTYPES)
def test_momentum_is_that_of_stacked_steps(dtype):
    fused, stacked = stepped("brgemm", dtype)[1], stepped("torch", dtype)[1]
    for name in SHAPES:
        torch.testing.assert_close(fused[name], stacked[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_has_the_bits_that_it_has_alone(dtype):
    together = stepped("brgemm", dtype)[0]
    for name, shape in SHAPES.items():
        grads = [gradients(step)[name] for step in range(3)]
        for n in range(shape[0] if len(shape) == 3 else 1):
            part = (lambda t, n=n: t[n]) if len(shape) == 3 else (lambda t: t)
            weight = nn.Parameter(part(drawn(shape, 7)).clone())
            alone = Muon({name: weight}, MULTIPLIERS, KEYS, dtype)
            alone.backend = "brgemm"
            for grad in grads:
                weight.grad = part(grad).clone()
                alone.step(0.5)
            assert torch.equal(weight.detach(), part(together[name])), (name, n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_are_equal_on_repeat_and_with_any_number_of_threads(dtype):
    found = []
    for threads in (1, 1, 2, 3):
        torch.set_num_threads(threads)
        weights, momenta = stepped("brgemm", dtype)
        found.append([*weights.values(), *momenta.values()])
    assert [torch.equal(a, b) for again in found for a, b in zip(again, found[0])] == [True] * 4 * 2 * len(SHAPES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ["brgemm", "torch"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_a_matrix_without_gradient_keeps_its_momentum_and_only_decays(dtype, backend, decay):
    keys, zeros = Keys(lr=0.1, momentum=0.9, weight_decay=decay), {"stack": [1], "square": [slice(None)]}

    def idle(step, grads):
        if step:
            for name, parts in zeros.items():
                for part in parts:
                    grads[name][part] = -0.0 if step == 1 else 0.0

    (first, was), (weights, momenta) = (stepped(backend, dtype, n, keys, change=idle) for n in (1, 3))
    for name, parts in zeros.items():
        keep = 1 - keys.lr * 0.5 * MULTIPLIERS[name] * decay
        for part in parts:
            assert torch.equal(momenta[name][part], was[name][part])
            torch.testing.assert_close(weights[name][part], first[name][part] * keep * keep, rtol=1e-6, atol=1e-7)
    assert not torch.equal(momenta["stack"][0], was["stack"][0])
    assert not torch.equal(weights["stack"][2], first["stack"][2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_that_is_not_finite_spoils_its_own_matrix_alone(dtype):
    def spoil(step, grads):
        grads["stack"][1, 3, 5] = float("nan")

    clean, spoiled = stepped("brgemm", dtype)[0], stepped("brgemm", dtype, change=spoil)[0]
    assert bool(torch.isnan(spoiled["stack"][1]).all())
    clean["stack"][1] = spoiled["stack"][1] = 0.0
    assert [torch.equal(clean[name], spoiled[name]) for name in SHAPES] == [True] * len(SHAPES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_left_as_they_are(dtype):
    p = nn.Parameter(drawn((32, 64), 1))
    optimizer = Muon({"w": p}, {"w": 1.0}, KEYS, dtype)
    optimizer.backend, p.grad = "brgemm", drawn((64, 32), 2).t()  # nor need they be contiguous
    other = nn.Parameter(drawn((32, 64), 1))
    contiguous = Muon({"w": other}, {"w": 1.0}, KEYS, dtype)
    contiguous.backend, other.grad = "brgemm", p.grad.contiguous()
    optimizer.step(1.0), contiguous.step(1.0)
    assert torch.equal(p.grad, drawn((64, 32), 2).t()) and torch.equal(p, other)


@pytest.mark.parametrize("shape", [(33, 64), (64, 48), (16, 16)])
def test_a_shape_that_the_kernel_does_not_take_is_stacked(shape, monkeypatch):
    monkeypatch.setattr(calls, "_call", None)
    shapes = {"wide": shape}
    fused, stacked = (stepped(backend, torch.float32, shapes=shapes)[0] for backend in ("brgemm", "torch"))
    assert torch.equal(fused["wide"], stacked["wide"])


def test_what_no_cache_of_a_core_holds_is_stacked():
    assert calls.takes_muon(1024, 2048) and not calls.takes_muon(2048, 2048)


def test_weights_that_lie_otherwise_in_memory_are_no_matrices_to_the_kernel():
    w = [drawn((64, 32), 1).t()]
    assert not w[0].is_contiguous()
    with pytest.raises(AssertionError):
        calls.muon(w, w, w, [0.1], [1.0], 0.9, [COEFFICIENTS], torch.float32)


def test_a_default_dtype_of_somebody_elses_changes_nothing():
    expected = stepped("brgemm", torch.float32, shapes={"wide": SHAPES["wide"]})[0]["wide"]
    weight = nn.Parameter(drawn(SHAPES["wide"], 7))
    optimizer = Muon({"wide": weight}, MULTIPLIERS, KEYS)
    optimizer.backend = "brgemm"
    grads = [gradients(step, {"wide": SHAPES["wide"]})["wide"] for step in range(3)]
    torch.set_default_dtype(torch.float64)
    try:
        for grad in grads:
            weight.grad = grad
            optimizer.step(0.5)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(weight.detach(), expected)
