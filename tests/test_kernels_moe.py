"""The expert MLP: the CPU backends against the oracle, its edge cases, its bits and its memory."""

import pytest
import torch
from expert_inputs import IN_BRGEMM, ROUTINGS, inputs, relative_error, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from kernels import Precision, Quantization, moe_mlp, prepare_products
from kernels.moe import _backward_op, _forward_op

ACTIVATIONS = ("relu2", "swiglu")
PRECISIONS = ("full", "emulated", "native")
CPU_BACKENDS = ("reference", "torch", "inductor", "brgemm")  # triton: tests/test_kernels_triton.py
FAST = CPU_BACKENDS[1:]
WAYS = [(b, p) for b in FAST for p in PRECISIONS if (b, p) != ("inductor", "emulated")]  # which the latter refuses


def each(values):
    """As parameters; what compiles is slow, and `brgemm` hands most of these widths on to what does. Each pair of widths is
    compiled for seconds, so tests that need none of their own share three: 8 x 4, 32 x 16, 64 x 32."""
    words = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*some, marks=[pytest.mark.slow] * bool({"inductor", "brgemm"} & set(some))) for some in words]


@pytest.mark.parametrize("backend", each(FAST))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_backend_matches_the_oracle_in_values_and_gradients(activation, backend):
    tensors, dy_TD = inputs(70, 64, 32, 6, 3, activation), torch.randn(70, 64, generator=torch.Generator().manual_seed(1))
    found = run(tensors, dy_TD, activation=activation, backend=backend)
    expected = run(tensors, dy_TD, activation=activation, backend="reference")
    assert [relative_error(a, b) <= 1e-5 for a, b in zip(found, expected)] == [True] * 5


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    tokens=st.sampled_from([1, 2, 3, 7, 32, 33, 65]),
    experts=st.integers(1, 6),
    data=st.data(),
    kind=st.sampled_from(ROUTINGS),
    activation=st.sampled_from(ACTIVATIONS),
    strided=st.booleans(),
    seed=st.integers(0, 2**31),
    backend=st.sampled_from(FAST),
)
def test_a_backend_matches_the_oracle_on_any_shape_and_routing(backend, tokens, experts, data, kind, activation, strided, seed):
    top_k = data.draw(st.integers(1, experts), label="top_k")
    width, expert_width = data.draw(st.tuples(st.integers(3, 18), st.integers(3, 18)), label="width, expert width")
    tensors = inputs(tokens, width, expert_width, experts, top_k, activation, kind, seed)
    if strided:  # the same values behind transposed and sliced views
        x, w_up, w_down, expert_TK, weight = tensors
        tensors = (
            x.t().contiguous().t(), w_up.mT.contiguous().mT, torch.cat([w_down, w_down], dim=2)[..., :width],
            expert_TK.t().contiguous().t(), weight.t().contiguous().t(),
        )  # fmt: skip
    dy_TD = torch.randn(width, tokens, generator=torch.Generator().manual_seed(seed)).t()
    found = run(tensors, dy_TD, activation=activation, backend=backend)
    expected = run(tensors, dy_TD, activation=activation, backend="reference")
    for a, b in zip(found, expected):
        assert a.shape == b.shape
        # inputs are of unit size: one unit is the floor under sums that cancel
        assert float((a - b).norm()) <= 1e-5 * max(1.0, float(b.norm()))


@pytest.mark.parametrize("backend", each(CPU_BACKENDS))
def test_an_expert_listed_twice_counts_twice(backend):
    x, w_up, w_down, _, _ = inputs(4, 32, 16, 3, 1, "relu2")
    once = moe_mlp(x, w_up, w_down, torch.full((4, 1), 2), torch.full((4, 1), 0.75), activation="relu2", backend=backend)
    weight = torch.tensor([[0.5, 0.25]]).expand(4, 2)
    twice = moe_mlp(x, w_up, w_down, torch.full((4, 2), 2), weight, activation="relu2", backend=backend)
    torch.testing.assert_close(twice, once, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", each(CPU_BACKENDS))
def test_experts_without_rows_get_zero_gradients(backend):
    x, w_up, w_down, _, weight = inputs(5, 8, 4, 4, 2, "swiglu")
    expert_TK = torch.tensor([[0, 2]] * 5)
    _, _, dw_up, dw_down, _ = run((x, w_up, w_down, expert_TK, weight), torch.ones(5, 8), activation="swiglu", backend=backend)
    assert [bool(g[e].any()) for g in (dw_up, dw_down) for e in range(4)] == [True, False, True, False] * 2


@pytest.mark.parametrize("backend", each(CPU_BACKENDS))
def test_dropped_rows_add_nothing_and_get_no_gradient(backend):
    """As if their routing weights were 0; with 32 rows of 16 each left, no segment has a padding slot to begin with."""
    x, w_up, w_down, _, weight = inputs(32, 8, 4, 3, 2, "swiglu")
    for expert_T1, other_T1 in (((0, -1), (-1, 1)), ((-1, 2), (-1, -1)), ((-1, -1), (-1, -1))):
        expert_TK = torch.tensor([expert_T1, other_T1] * 16)
        kept, dy_TD = (expert_TK >= 0).float(), torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
        found = run((x, w_up, w_down, expert_TK, weight), dy_TD, activation="swiglu", backend=backend)
        whole = (x, w_up, w_down, expert_TK.clamp(min=0), weight * kept)
        expected = run(whole, dy_TD, activation="swiglu", backend="reference")
        expected[4] = expected[4] * kept
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert not found[4][expert_TK < 0].any()


@pytest.mark.parametrize("backend, precision", each(WAYS))
def test_dropping_other_rows_leaves_the_bits_of_a_row_alone(backend, precision):
    x, w_up, w_down, expert_TK, weight = inputs(70, 32, 16, 4, 2, "relu2")
    dy_TD, fewer_TK = torch.randn(70, 32, generator=torch.Generator().manual_seed(1)), expert_TK.clone()
    fewer_TK[::3] = -1
    options = dict(activation="relu2", backend=backend, precision=precision)
    (y, dx, *_), (y_fewer, dx_fewer, *_) = (run((x, w_up, w_down, e, weight), dy_TD, **options) for e in (expert_TK, fewer_TK))
    stays = torch.arange(70) % 3 != 0
    assert torch.equal(y[stays], y_fewer[stays]) and torch.equal(dx[stays], dx_fewer[stays])
    assert not y_fewer[~stays].any() and not dx_fewer[~stays].any()


@pytest.mark.parametrize("backend", each(CPU_BACKENDS))
def test_a_batch_without_tokens_gives_no_rows(backend):
    x, w_up, w_down, expert_TK, weight = inputs(3, 8, 4, 4, 2, "swiglu")
    y_TD = moe_mlp(x[:0], w_up, w_down, expert_TK[:0], weight[:0], activation="swiglu", backend=backend)
    assert y_TD.shape == (0, 8)


@pytest.mark.parametrize("backend, precision", each([("reference", p) for p in PRECISIONS] + WAYS))
@pytest.mark.parametrize("dtypes", [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "bfloat16")])
def test_y_is_fp32_and_gradients_keep_the_dtype_of_their_input(backend, precision, dtypes):
    x_dtype, w_dtype = (getattr(torch, name) for name in dtypes)
    x, w_up, w_down, expert_TK, weight = inputs(6, 8, 4, 4, 2, "swiglu")
    tensors = (x.to(x_dtype), w_up.to(w_dtype), w_down.to(w_dtype), expert_TK, weight)
    results = run(tensors, torch.ones(6, 8), activation="swiglu", backend=backend, precision=precision)
    assert [t.dtype for t in results] == [torch.float32, x_dtype, w_dtype, w_dtype, torch.float32]


@pytest.mark.parametrize("backend, precision", each(WAYS))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_two_runs_have_the_same_bits(activation, backend, precision):
    tensors, dy_TD = inputs(50, 32, 16, 5, 2, activation), torch.randn(50, 32)
    first, second = (run(tensors, dy_TD, activation=activation, backend=backend, precision=precision) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize("backend, precision", each(WAYS))
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("others", [0, 31, 99])
def test_a_tokens_rows_have_the_same_bits_whatever_else_is_in_the_batch(activation, backend, precision, others):
    x, w_up, w_down, expert_TK, weight = inputs(300, 64, 32, 5, 3, activation)
    dy_TD = torch.randn(300, 64, generator=torch.Generator().manual_seed(2))
    y_all, dx_all, *_ = run(
        (x, w_up, w_down, expert_TK, weight), dy_TD, activation=activation, backend=backend, precision=precision
    )
    chosen = torch.randperm(300, generator=torch.Generator().manual_seed(others))[: others + 1]
    part = (x[chosen], w_up, w_down, expert_TK[chosen], weight[chosen])
    y, dx, *_ = run(part, dy_TD[chosen], activation=activation, backend=backend, precision=precision)
    assert torch.equal(y, y_all[chosen])
    assert torch.equal(dx, dx_all[chosen])


@pytest.mark.parametrize("backend, precision", each(WAYS))
@pytest.mark.parametrize("activation, fan", [("relu2", 1), ("swiglu", 2)])
@pytest.mark.parametrize("tokens", [1, 40])
def test_saved_for_backward_is_x_the_padded_pre_activations_and_the_routing(tokens, activation, fan, backend, precision):
    h_bytes = {"full": 4, "emulated": 4, "native": 2}[precision]
    width, expert_width, experts, top_k = 32, 16, 6, 2
    x, w_up, w_down, expert_TK, weight = inputs(tokens, width, expert_width, experts, top_k, activation)
    leaves = [t.requires_grad_() for t in (x, w_up, w_down, weight)]
    saved = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.setdefault(t.data_ptr(), t), lambda t: t):
        y_TD = moe_mlp(
            *leaves[:3], expert_TK, leaves[3], activation=activation, backend=backend, precision=Precision.of(precision)
        )
    activations = [t for pointer, t in saved.items() if pointer not in (w_up.data_ptr(), w_down.data_ptr())]
    rows = tokens * top_k
    slots = rows + min(rows, experts) * 15  # every expert that can have rows is padded by at most 15
    expected = tokens * width * 4 + slots * expert_width * fan * h_bytes + rows * (8 + 4)
    assert sum(t.numel() * t.element_size() for t in activations) == expected
    assert y_TD.requires_grad


BAD = {
    "an unknown activation": (dict(activation="gelu"), ["gelu", "relu2", "swiglu"]),
    "an unknown backend": (dict(backend="cuda"), ["cuda", "torch"]),
    "an up-projection of the other activation": (dict(activation="relu2"), ["(4, 8, 12)", "(4, 8, 6)"]),
    "an up-projection of another width": (dict(w_up=torch.zeros(4, 9, 12)), ["(4, 9, 12)", "(4, 8, 12)"]),
    "an up-projection of fewer experts": (dict(w_up=torch.zeros(3, 8, 12)), ["(3, 8, 12)", "(4, 8, 12)"]),
    "a down-projection that is no stack": (dict(w_down=torch.zeros(6, 8)), ["(6, 8)"]),
    "x of another width": (dict(x=torch.zeros(5, 7)), ["(5, 7)", "8"]),
    "x without a width": (dict(x=torch.zeros(5)), ["(5,)"]),
    "ids of another number of tokens": (dict(expert=torch.zeros(4, 2, dtype=torch.int64)), ["(4, 2)"]),
    "ids and weights without top-k": (dict(expert=torch.zeros(5, dtype=torch.int64), weight=torch.zeros(5)), ["(5,)"]),
    "top-k of zero": (dict(expert=torch.zeros(5, 0, dtype=torch.int64), weight=torch.zeros(5, 0)), ["(5, 0)"]),
    "weights of another top-k": (dict(weight=torch.zeros(5, 3)), ["(5, 3)", "(5, 2)"]),
    "an id of E": (dict(expert=torch.full((5, 2), 4)), ["[0, 4)", "4"]),
    "a negative id": (dict(expert=torch.full((5, 2), -2)), ["[0, 4)", "-2"]),
    "x that is no floating point": (dict(x=torch.zeros(5, 8, dtype=torch.int32)), ["x is torch.int32", "floating point"]),
    "weights that are no floating point": (dict(weight=torch.ones(5, 2, dtype=torch.int64)), ["weight is torch.int64"]),
    "ids on another device": (dict(expert=torch.zeros(5, 2, dtype=torch.int64, device="meta")), ["expert is on meta", "cpu"]),
    "ids that are no integers": (dict(expert=torch.zeros(5, 2)), ["float32", "int64"]),
}


@pytest.mark.parametrize("backend", each(CPU_BACKENDS))
@pytest.mark.parametrize("case", BAD)
def test_inputs_that_do_not_fit_are_refused_with_their_values(case, backend):
    changes, words = BAD[case]
    x, w_up, w_down, expert_TK, weight = inputs(5, 8, 6, 4, 2, "swiglu")
    given_ = (
        dict(x=x, w_up=w_up, w_down=w_down, expert=expert_TK, weight=weight, activation="swiglu", backend=backend) | changes
    )
    tensors = [given_.pop(name) for name in ("x", "w_up", "w_down", "expert", "weight")]
    with pytest.raises(ValueError) as error:
        moe_mlp(*tensors, **given_)
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.slow
@pytest.mark.parametrize("backend, precision", each(WAYS))
def test_the_forward_op_keeps_the_rules_of_torch_library(backend, precision):
    x, w_up, w_down, expert_TK, weight = inputs(5, 8, 4, 3, 2, "swiglu")
    leaves = [t.requires_grad_() for t in (x, w_up, w_down, weight)]
    torch.library.opcheck(_forward_op, (*leaves[:3], expert_TK, leaves[3], *[None] * 3, "swiglu", precision, backend, False))


@pytest.mark.parametrize("backend, precision", each(WAYS))
def test_the_backward_op_keeps_the_rules_of_torch_library(backend, precision):
    x, w_up, w_down, expert_TK, weight = inputs(5, 8, 4, 3, 2, "swiglu")
    _, h_PG, *kept = _forward_op(x, w_up, w_down, expert_TK, weight, *[None] * 3, "swiglu", precision, backend, False)
    tensors = (torch.randn(5, 8), x, w_up, w_down, expert_TK, weight, *[None] * 3, h_PG, kept)
    torch.library.opcheck(_backward_op, (*tensors, "swiglu", precision, backend))


def test_the_fused_backend_refuses_emulated_bf16_and_says_what_to_use():
    *tensors, expert_TK, weight_TK = inputs(5, 8, 4, 3, 2, "swiglu")
    with pytest.raises(ValueError, match="inductor.*emulated.*use backend='torch'"):
        moe_mlp(*tensors, expert_TK, weight_TK, activation="swiglu", backend="inductor", precision=Precision.of("emulated"))


def test_preparing_products_changes_no_bits():
    tensors, dy_TD = inputs(300, 64, 32, 5, 3, "relu2"), torch.randn(300, 64)
    before = run(tensors, dy_TD, activation="relu2", precision="native")
    prepare_products(300, 64, 32, activation="relu2", precision=Precision.of("native"))
    after = run(tensors, dy_TD, activation="relu2", precision="native")
    assert all(torch.equal(a, b) for a, b in zip(before, after))


@pytest.mark.parametrize("backend", each(FAST))
def test_a_second_derivative_is_refused_with_what_to_use(backend):
    x, *rest = inputs(5, 8, 4, 3, 2, "swiglu")
    x.requires_grad_()
    y_TD = moe_mlp(x, *rest, activation="swiglu", backend=backend)
    (dx,) = torch.autograd.grad(y_TD.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative.*create_graph.*reference"):
        dx.sum().backward()


def test_the_reference_has_a_second_derivative():
    x, *rest = inputs(5, 8, 4, 3, 2, "swiglu")
    x.requires_grad_()
    (dx,) = torch.autograd.grad(
        moe_mlp(x, *rest, activation="swiglu", backend="reference").square().sum(), x, create_graph=True
    )
    dx.sum().backward()
    assert bool(torch.isfinite(x.grad).all()) and bool(x.grad.any())


@pytest.mark.parametrize("backend", each(CPU_BACKENDS))
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_debug_names_the_first_routing_weight_that_is_not_finite(value, backend):
    *tensors, expert_TK, weight_TK = inputs(5, 8, 4, 3, 2, "swiglu")
    weight_TK[3, 1] = weight_TK[4, 0] = value
    with pytest.raises(ValueError, match=rf"weight\[3, 1\] is {value} and 2 of 10 routing weights are not finite"):
        moe_mlp(*tensors, expert_TK, weight_TK, activation="swiglu", backend=backend, debug=True)
    moe_mlp(*tensors, expert_TK, weight_TK, activation="swiglu", backend=backend)  # without it nobody looks


@pytest.mark.parametrize("backend, precision", each(WAYS))
def test_the_operator_compiles_without_a_graph_break_and_keeps_its_bits(backend, precision):
    *tensors, expert_TK, weight_TK = inputs(20, 8, 4, 4, 2, "swiglu")
    options = dict(activation="swiglu", backend=backend, precision=Precision.of(precision))

    def layer(x, w_up, w_down, weight):
        return moe_mlp(x, w_up, w_down, expert_TK, weight, **options)

    results = []
    for function in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager")):
        leaves = [t.clone().requires_grad_() for t in (*tensors, weight_TK)]
        y_TD = function(*leaves)
        results.append([y_TD.detach(), *torch.autograd.grad(y_TD, leaves, torch.ones_like(y_TD))])
    assert all(torch.equal(a, b) for a, b in zip(*results))


@pytest.mark.parametrize("backend, precision", each(WAYS))
def test_activation_checkpointing_keeps_the_bits_and_saves_only_inputs(backend, precision):
    *tensors, expert_TK, weight_TK = inputs(20, 32, 16, 4, 2, "relu2")
    options = dict(activation="relu2", backend=backend, precision=Precision.of(precision))

    def layer(x, w_up, w_down, weight):
        return moe_mlp(x, w_up, w_down, expert_TK, weight, **options)

    results, saved = [], []
    for run_layer in (layer, lambda *leaves: checkpoint(layer, *leaves, use_reentrant=False)):
        leaves = [t.clone().requires_grad_() for t in (*tensors, weight_TK)]
        known, kept = {t.data_ptr() for t in leaves} | {expert_TK.data_ptr()}, []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, k=kept: k.append(t) or t, lambda t: t):
            y_TD = run_layer(*leaves)
        saved.append([t for t in kept if torch.is_tensor(t) and t.data_ptr() not in known])
        results.append([y_TD.detach(), *torch.autograd.grad(y_TD, leaves, torch.ones_like(y_TD))])
    assert all(torch.equal(a, b) for a, b in zip(*results))
    assert len(saved[0]) > 0 and not any(t.numel() for t in saved[1])  # torch 2.11 saves an empty one


@pytest.mark.slow
def test_the_fused_backend_keeps_its_bits_whatever_the_process_computed_before():
    tensors, dy_TD = inputs(20, 8, 4, 4, 2, "swiglu"), torch.randn(20, 8)
    before = run(tensors, dy_TD, activation="swiglu", backend="inductor")
    for top_k in range(1, 10):  # more compilations than torch.compile makes by default
        run(inputs(5, 8 + top_k, 4, 9, top_k, "swiglu"), torch.randn(5, 8 + top_k), activation="swiglu", backend="inductor")
    after = run(tensors, dy_TD, activation="swiglu", backend="inductor")
    assert all(torch.equal(a, b) for a, b in zip(before, after))


@pytest.mark.parametrize("backend", ["torch", "brgemm"])
def test_weights_cast_before_have_the_bits_of_weights_cast_anew(backend):
    """And gradients of the masters; a backend that takes masters does not look at them."""
    tensors = inputs(40, 64, 32, 4, 2, "swiglu")
    precision, dy_TD = Precision.of("native"), torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    if backend == "brgemm" and "native" not in IN_BRGEMM:
        pytest.skip("this processor does not multiply bf16")
    operands = tuple(w.bfloat16() for w in tensors[1:3])
    words = {"activation": "swiglu", "backend": backend, "precision": precision}
    found, expected = run(tensors, dy_TD, operands=operands, **words), run(tensors, dy_TD, **words)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected))


@pytest.mark.parametrize("odd", ["shape", "dtype", "quantized"])
def test_operands_that_do_not_fit_are_refused(odd):
    x, w_up, w_down, expert_TK, weight = inputs(4, 64, 32, 4, 2, "relu2")
    down = (w_down[:2] if odd == "shape" else w_down).to(torch.float16 if odd == "dtype" else torch.bfloat16)
    operands = (w_up.bfloat16(), down)
    precision = Precision.of("native")
    if odd == "quantized":
        precision = Precision(precision.arithmetic, Quantization.recipe("nvfp4"))
    with pytest.raises(ValueError, match="the operand of w_"):
        moe_mlp(x, w_up, w_down, expert_TK, weight, activation="relu2", precision=precision, operands=operands)
