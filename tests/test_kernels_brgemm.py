"""The expert MLP in C++ at widths that its kernel takes: values, edges, bits; and what it hands on.

The cases that every backend has to pass are in tests/test_kernels_moe.py."""

import math
from dataclasses import replace

import pytest
import torch
from expert_inputs import IN_BRGEMM, ROUTINGS, inputs, relative_error, run
from quantized_moe import drawn, precision

from kernels import Quantization
from kernels.cpu.brgemm import calls
from kernels.moe import _forward_op

ACTIVATIONS = ("relu2", "swiglu")
WIDTHS = ((32, 32), (64, 96), (96, 64))  # width, expert width
CHUNK = 2048  # rows whose weight gradients are summed at once (expert_mlp.cpp)


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def not_a_number_in_new_memory():
    """Of tensors; so that what nobody writes is seen."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def gradient(tokens, width, seed=1):
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


def assert_as_good_as_torch(activation, arithmetic, *batches):
    """y and gradients of all batches, against the oracle in fp64: sums in another order than those of `torch`, of the same
    roundings where that multiplies bf16; its emulated products keep pre-activations and rows in fp32."""
    found = {"exact": [], "brgemm": [], "torch": []}
    for tensors in batches:
        dy_TD, doubled = gradient(*tensors[0].shape), [t.double() if t.is_floating_point() else t for t in tensors]
        found["exact"].append(run(doubled, dy_TD, activation=activation, backend="reference"))
        for backend, known in (("brgemm", arithmetic), ("torch", "full" if arithmetic == "full" else "native")):
            found[backend].append(run(tensors, dy_TD, activation=activation, backend=backend, precision=known))
    exact, ours, theirs = ([torch.cat([t.flatten() for t in same]) for same in zip(*some)] for some in found.values())
    for want, our, their in zip(exact, ours, theirs, strict=True):
        assert relative_error(our, want) <= 1.2 * relative_error(their, want) + 1e-6


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("width, expert_width", WIDTHS)
@pytest.mark.parametrize("kind", ROUTINGS)
def test_values_and_gradients_are_as_near_to_the_oracle_as_the_other_backends(
    arithmetic, activation, width, expert_width, kind
):
    assert_as_good_as_torch(activation, arithmetic, inputs(70, width, expert_width, 6, 3, activation, kind))


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("tokens, experts, top_k", [(1, 3, 1), (1, 4, 4), (17, 5, 5), (3, 20, 2)])
def test_one_token_all_experts_and_hardly_any_rows_are_as_good(arithmetic, tokens, experts, top_k):
    batches = (inputs(tokens, 32, 64, experts, top_k, "swiglu", seed=seed) for seed in range(40))
    assert_as_good_as_torch("swiglu", arithmetic, *batches)


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [CHUNK, CHUNK + 1, 2 * CHUNK + 70])
def test_an_expert_with_more_rows_than_a_chunk_sums_all_of_them(arithmetic, activation, rows):
    assert_as_good_as_torch(activation, arithmetic, inputs(rows, 32, 64, 3, 1, activation, "one expert"))


def test_the_kernel_is_who_computes_this(monkeypatch):
    called = []
    monkeypatch.setattr(calls, "_call", lambda name, *_: called.append(name))
    run(inputs(4, 32, 32, 3, 2, "relu2"), gradient(4, 32), activation="relu2", backend="brgemm")
    assert called == ["expert_mlp_forward", "expert_mlp_backward"]


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_everything_is_written(arithmetic, activation, not_a_number_in_new_memory):
    """Also for experts without rows, rows that are dropped, and tokens all of whose rows are."""
    x, w_up, w_down, expert_TK, weight = inputs(40, 32, 64, 5, 2, activation)
    expert_TK[expert_TK == 3] = -1
    expert_TK[7] = -1
    y, dx, dw_up, dw_down, dweight = found = run(
        (x, w_up, w_down, expert_TK, weight), gradient(40, 32), activation=activation, backend="brgemm", precision=arithmetic
    )
    assert all(bool(torch.isfinite(t).all()) for t in found)
    assert not y[7].any() and not dx[7].any() and not dw_up[3].any() and not dw_down[3].any()
    assert not dweight[expert_TK < 0].any() and bool(dweight[expert_TK >= 0].all())


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
def test_the_saved_rows_that_no_expert_needs_are_zero(arithmetic, not_a_number_in_new_memory):
    x, w_up, w_down, expert_TK, weight = inputs(20, 32, 32, 4, 2, "swiglu")
    expert_TK[:] = torch.tensor([1, -1])
    h_PG = _forward_op(x, w_up, w_down, expert_TK, weight, *[None] * 3, "swiglu", arithmetic, "brgemm", False)[1]
    assert h_PG.shape == (40 + 4 * 15, 64)
    assert bool(h_PG[:20].any(1).all()) and not h_PG[20:].any()


def test_a_batch_without_tokens_gives_no_rows_and_zero_gradients():
    tensors = inputs(0, 32, 32, 4, 2, "swiglu")
    y, dx, dw_up, dw_down, dweight = run(tensors, gradient(0, 32), activation="swiglu", backend="brgemm")
    assert (y.shape, dx.shape, dweight.shape) == ((0, 32), (0, 32), (0, 2))
    assert not dw_up.any() and not dw_down.any()


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
def test_an_expert_listed_twice_counts_twice(arithmetic):
    x, w_up, w_down, _, _ = inputs(50, 32, 64, 3, 1, "relu2")
    dy_TD, options = gradient(50, 32), dict(activation="relu2", backend="brgemm", precision=arithmetic)
    once = run((x, w_up, w_down, torch.full((50, 1), 2), torch.full((50, 1), 1.0)), dy_TD, **options)
    twice = run((x, w_up, w_down, torch.full((50, 2), 2), torch.full((50, 2), 0.5)), dy_TD, **options)
    assert torch.equal(once[0], twice[0]) and torch.equal(once[1], twice[1])  # halves of a power of 2 are exact
    assert [relative_error(a, b) < 1e-6 for a, b in zip(twice[2:4], once[2:4])] == [True] * 2
    assert torch.equal(twice[4], once[4].expand(50, 2))


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("width, expert_width", WIDTHS)
def test_a_row_has_the_same_bits_however_many_there_are(arithmetic, activation, width, expert_width):
    """Blocks of 16, 32, 48 and 64 rows, at every remainder."""
    x, w_up, w_down, expert_TK, weight = inputs(150, width, expert_width, 2, 1, activation, "one expert")
    dy_TD, options = gradient(150, width), dict(activation=activation, backend="brgemm", precision=arithmetic)
    y, dx, *_ = run((x, w_up, w_down, expert_TK, weight), dy_TD, **options)
    for n in (1, 15, 16, 17, 33, 49, 64, 65, 81, 97, 113, 129):
        some = (x[:n], w_up, w_down, expert_TK[:n], weight[:n])
        y_n, dx_n, *_ = run(some, dy_TD[:n], **options)
        assert torch.equal(y_n, y[:n]) and torch.equal(dx_n, dx[:n])


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
def test_a_tokens_rows_have_the_same_bits_whatever_else_is_in_the_batch(arithmetic):
    x, w_up, w_down, expert_TK, weight = inputs(2 * CHUNK + 100, 32, 32, 2, 1, "swiglu")
    expert_TK[: CHUNK + 50] = 0  # an expert of several chunks
    dy_TD, options = gradient(len(x), 32), dict(activation="swiglu", backend="brgemm", precision=arithmetic)
    whole = run((x, w_up, w_down, expert_TK, weight), dy_TD, **options)
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))[:77]
    part = run((x[chosen], w_up, w_down, expert_TK[chosen], weight[chosen]), dy_TD[chosen], **options)
    assert [torch.equal(part[i], whole[i][chosen]) for i in (0, 1, 4)] == [True] * 3


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bits_are_equal_on_repeat_and_with_any_number_of_threads(arithmetic, activation):
    tensors, found = inputs(CHUNK + 300, 32, 64, 5, 2, activation, "two experts"), []
    for threads in (1, 1, 2, 3):
        torch.set_num_threads(threads)
        found.append(run(tensors, gradient(CHUNK + 300, 32), activation=activation, backend="brgemm", precision=arithmetic))
    assert [torch.equal(a, b) for again in found for a, b in zip(again, found[0])] == [True] * 20


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_not_finite_stays_in_its_token(arithmetic, activation):
    x, *rest = inputs(40, 32, 64, 3, 2, activation)
    dy_TD, options = gradient(40, 32), dict(activation=activation, backend="brgemm", precision=arithmetic)
    before = run((x, *rest), dy_TD, **options)
    x[11, 5] = math.nan
    after = run((x, *rest), dy_TD, **options)
    others = torch.arange(40) != 11
    for i in (0, 1, 4):
        assert torch.equal(before[i][others], after[i][others]) and bool(torch.isnan(after[i][11]).all())
    assert bool(torch.isnan(after[2]).any())


@pytest.mark.parametrize("bad", [3, -2, 2**40])
def test_ids_out_of_range_are_refused(bad):
    x, w_up, w_down, expert_TK, weight = inputs(5, 32, 32, 3, 2, "relu2")
    expert_TK[4, 1] = bad
    with pytest.raises(ValueError, match=rf"\[0, 3\).*{bad}"):
        run((x, w_up, w_down, expert_TK, weight), gradient(5, 32), activation="relu2", backend="brgemm")


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
def test_weights_that_lie_otherwise_in_memory_or_are_not_fp32_give_the_values_of_those_that_do(arithmetic):
    x, w_up, w_down, expert_TK, weight = inputs(20, 32, 64, 3, 2, "swiglu")
    w_up, w_down, dy_TD = w_up.bfloat16(), w_down.bfloat16(), gradient(20, 32)
    options = dict(activation="swiglu", backend="brgemm", precision=arithmetic)
    expected = run((x, w_up.float(), w_down.float(), expert_TK, weight), dy_TD, **options)
    otherwise = x.t().contiguous().t(), w_up.mT.contiguous().mT, w_down.mT.contiguous().mT, expert_TK.t().contiguous().t()
    found = run((*otherwise, weight.t().contiguous().t()), dy_TD.t().contiguous().t(), **options)
    for a, b in zip(found, expected):
        assert torch.equal(a, b.to(a.dtype))


@pytest.mark.slow
@pytest.mark.parametrize(  # equal widths share their compilations, which take seconds each
    "format, arithmetic, other, width",
    [
        ("fp8", "native", "inductor", 128), ("fp8", "emulated", "torch", 128), ("nvfp4", "full", "inductor", 64),
        ("mxfp4", "emulated", "torch", 64),
    ],
)  # fmt: skip
def test_formats_below_bf16_have_the_bits_of_the_backend_that_computes_them(format, arithmetic, other, width):
    """Weight gradients are not quantized: half of what would be compiled is theirs."""
    tensors, dy_TD = drawn("relu2", width=width, expert_width=width)
    dials = replace(Quantization.recipe(format), keep=("weight_gradient",))
    options = dict(activation="relu2", precision=precision(dials, arithmetic))
    found, expected = (run(tensors, dy_TD, backend=backend, **options) for backend in ("brgemm", other))
    assert [torch.equal(a, b) for a, b in zip(found, expected)] == [True] * 5


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic, other", [("full", "inductor"), ("emulated", "torch"), ("native", "inductor")])
@pytest.mark.parametrize("width, expert_width", [(32, 16), (40, 32), (16, 16)])
def test_other_widths_have_the_bits_of_the_backend_that_computes_them(width, expert_width, arithmetic, other):
    tensors, dy_TD = inputs(40, width, expert_width, 3, 2, "relu2"), gradient(40, width)
    found, expected = (
        run(tensors, dy_TD, activation="relu2", precision=arithmetic, backend=backend) for backend in ("brgemm", other)
    )
    assert [torch.equal(a, b) for a, b in zip(found, expected)] == [True] * 5


def test_a_default_dtype_of_somebody_elses_changes_nothing():
    tensors, dy_TD = inputs(20, 32, 32, 3, 2, "relu2"), gradient(20, 32)
    expected = run(tensors, dy_TD, activation="relu2", backend="brgemm")
    torch.set_default_dtype(torch.float64)
    try:
        found = run(tensors, dy_TD, activation="relu2", backend="brgemm")
    finally:
        torch.set_default_dtype(torch.float32)
    assert [torch.equal(a, b) for a, b in zip(found, expected)] == [True] * 5


def test_memory_that_there_is_not_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(calls, "library", lambda: _Fails())
    with pytest.raises(torch.OutOfMemoryError, match="can't allocate memory"):
        run(inputs(4, 32, 32, 3, 2, "relu2"), gradient(4, 32), activation="relu2", backend="brgemm")


class _Fails:
    def __getattr__(self, name):
        return lambda *_: False
