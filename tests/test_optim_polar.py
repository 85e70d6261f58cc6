"""The Gram form of Newton-Schulz: the same as the direct one, to what each dtype allows; fewer FLOPs, or not taken."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.errors import UserError
from harness.optim.optimizers.muon import Muon
from harness.optim.polar import direct, gram, orthogonalize, polynomials, segments
from harness.plan.compose import compose
from harness.plan.parts.optim.muon import Keys, direct_flops, flops_per_step, gram_flops, gram_segments

ITERATIONS = pytest.mark.parametrize("iteration", ["quintic", "polar-express"])
SPECTRA = {
    "normal": None,
    "falls to 1e-3": torch.logspace(0, -3, 48, dtype=torch.float64),
    "falls to 1e-6": torch.logspace(0, -6, 48, dtype=torch.float64),
    "one alone": torch.tensor([100.0] + [1.0] * 47, dtype=torch.float64),
    "rank of six": torch.tensor([1.0] * 6 + [0.0] * 42, dtype=torch.float64),
}


def stack(spectrum, columns=120, count=4):
    """fp64 (count, 48, columns) of Frobenius norm 1."""
    x = torch.randn(count, 48, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    if SPECTRA[spectrum] is not None:
        u, _, vh = torch.linalg.svd(x, full_matrices=False)
        x = (u * SPECTRA[spectrum]) @ vh
    return x / x.norm(dim=(1, 2), keepdim=True)


def error(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


def cosine(found, expected):
    """The least of a stack."""
    return float(torch.nn.functional.cosine_similarity(found.double().flatten(1), expected.flatten(1)).min())


@ITERATIONS
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_both_forms_are_the_same_polynomials(spectrum, iteration):
    """In fp64 to 1e-11, in fp32 to 2e-3 of the norm: the worst has singular values of 1e-6, which the direct form in fp32 finds
    to 1e-5. In bf16 no further from fp64 than the direct form in bf16, but for its own rounding."""
    x, coefficients = stack(spectrum), polynomials(iteration, 5)
    exact = direct(x, coefficients)
    assert error(gram(x, coefficients, [5]), exact) < 1e-11
    assert error(gram(x, coefficients, [2, 2, 1]), exact) < 1e-11
    assert error(gram(x.float(), coefficients, gram_segments(48, 120, 5, False)), exact) < 2e-3
    low = x.bfloat16()
    found, beside = gram(low, coefficients, gram_segments(48, 120, 5, True)), direct(low, coefficients)
    assert found.dtype == torch.bfloat16
    assert 1 - cosine(found, exact) < 1.2 * (1 - cosine(beside, exact)) + 1e-3


@pytest.mark.parametrize("spectrum", [name for name in SPECTRA if name != "normal"])
def test_bf16_needs_its_restarts(spectrum):
    x, coefficients = stack(spectrum), polynomials("quintic", 5)
    exact = direct(x, coefficients)
    assert cosine(gram(x.bfloat16(), coefficients, [5]), exact) < 0.6


@pytest.mark.parametrize("steps", [1, 3, 4, 6, 8, 15])
def test_many_iterations_stay_finite_and_near_the_direct_form(steps):
    x, coefficients = stack("falls to 1e-3"), polynomials("quintic", steps)
    exact = direct(x, coefficients)
    for rounded, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        lengths = gram_segments(48, 120, steps, rounded)
        if steps > 1:
            found, beside = gram(x.to(dtype), coefficients, lengths), direct(x.to(dtype), coefficients)
            assert error(found, exact) < 1.2 * error(beside, exact) + (0.01 if rounded else 1e-3)
        else:
            assert lengths == []


@pytest.mark.parametrize("steps", [2, 5, 7])
@pytest.mark.parametrize("rounded", [False, True])
def test_flops_are_counted_as_they_are_computed(steps, rounded):
    x, coefficients = stack("normal").float(), polynomials("quintic", steps)
    lengths = gram_segments(48, 120, steps, rounded)
    for work, expected in (
        (lambda: direct(x, coefficients), direct_flops(48, 120, steps)),
        (lambda: gram(x, coefficients, lengths), gram_flops(48, 120, lengths)),
    ):
        with FlopCounterMode(display=False) as counter:
            work()
        assert counter.get_total_flops() == 4 * expected
    assert gram_flops(48, 120, lengths) < direct_flops(48, 120, steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows, columns", [(64, 64), (64, 96), (64, 97), (64, 128), (64, 512)])
def test_it_is_taken_where_it_is_cheaper_and_nowhere_else(rows, columns, dtype):
    taken = segments("gram", rows, columns, 5, dtype)
    assert taken == ([] if columns <= 96 else [5] if dtype == torch.float32 else [2, 2, 1])
    assert segments("direct", rows, columns, 5, dtype) == []


def moved(keys, backend="torch", dtype=torch.float32):
    """Weights after a step: two wide, one tall, one square."""
    draws = torch.Generator().manual_seed(3)
    shapes = {"wide": (32, 96), "stack": (3, 32, 64), "tall": (96, 32), "square": (64, 64)}
    parameters = {name: nn.Parameter(torch.randn(*shape, generator=draws)) for name, shape in shapes.items()}
    for p in parameters.values():
        p.grad = torch.randn(p.shape, generator=draws)
    optimizer = Muon(parameters, dict.fromkeys(shapes, 1.0), keys, dtype)
    optimizer.backend = backend
    optimizer.step(1.0)
    return {name: p.detach() for name, p in parameters.items()}


@pytest.mark.parametrize("backend", ["torch", "brgemm"])
def test_the_dial_moves_bits_of_wide_matrices_alone_and_little_beside(backend):
    """Where the kernel in C++ runs too, which has the direct form alone."""
    plain, found = (moved(Keys(form=form), backend) for form in ("direct", "gram"))
    assert {name for name in plain if not torch.equal(plain[name], found[name])} == {"wide", "stack", "tall"}
    for name in plain:
        torch.testing.assert_close(found[name], plain[name], rtol=1e-4, atol=1e-5)
    stacked = moved(Keys(form="gram"))
    assert all(torch.equal(found[name], stacked[name]) for name in ("wide", "stack", "tall"))


def test_a_tall_matrix_is_turned_first():
    g_NIO = torch.randn(2, 40, 12, generator=torch.Generator().manual_seed(2))
    lengths = segments("gram", 12, 40, 5, torch.float32)
    found = orthogonalize(g_NIO, 5, torch.float32, lengths)
    torch.testing.assert_close(found, orthogonalize(g_NIO.mT, 5, torch.float32, lengths).mT, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, orthogonalize(g_NIO, 5), rtol=1e-4, atol=1e-5)


def test_the_plan_counts_it_and_refuses_another_word():
    plain, found = (compose(["lane=tiny-moe-16e", f"optim.muon.form={form}"]).plan for form in ("direct", "gram"))
    assert flops_per_step(found, 1) / flops_per_step(plain, 1) == pytest.approx(23 / 25)
    with pytest.raises(UserError, match="optim.muon.form='gramm'"):
        compose(["lane=tiny-moe-16e", "optim.muon.form=gramm"])


def test_the_plan_counts_the_iteration_by_the_shapes_of_experts():
    """Of SwiGLU's up (768, 768) and down (384, 768), of which every expert has one each."""
    plan = compose(["lane=moe-256e"]).plan
    assert flops_per_step(plan, 3 * 768 * 384) == direct_flops(768, 768, 5) + direct_flops(384, 768, 5)
