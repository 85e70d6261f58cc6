"""The expert MLP below bf16: the CPU backends against the oracle in float64, edge cases, bits, and what is refused."""

import pytest
import torch
from expert_inputs import relative_error, run
from quantized_moe import drawn, in_float64, precision, turned_dials

from kernels import Arithmetic, Quantization, moe_mlp
from kernels.cpu.operands import Quantizer

ACTIVATIONS = ("relu2", "swiglu")
FORMATS = ("fp8", "nvfp4", "mxfp8", "mxfp4")
CASES = [
    pytest.param(dials, activation, id=f"{format}, {name}, {activation}")
    for format in FORMATS
    for name, dials in turned_dials(format).items()
    for activation in ACTIVATIONS
]
KEY_4 = torch.tensor([3, 5, 64, 1])
# relative to the norm of a result; measured over 3 draws of every case:
OF_SUMS = 1e-6  # fp32 sums in another order: 5.2e-7 at most
OF_A_FLIP = 1e-3  # one code of 5,120 on the other side of a rounding boundary: 4.7e-4 at most
OF_BF16_FLIPS = 1e-4  # some operands on the other side of a boundary of bf16; one that is not rounded at all: 1.5e-3
OF_A_SCALE = 1e-2  # such an operand was the largest of a block: 4.1e-3 at most


def worst_error(activation, seed, words, exact=True, **shape):
    """Over y and the four gradients; the oracle runs in float64 if `exact`."""
    tensors, dy_TD = drawn(activation, seed=seed, **shape)
    words = dict(words, activation=activation, key_4=KEY_4)
    found = run(tensors, dy_TD, backend="torch", **words)
    oracle = in_float64(tensors, dy_TD) if exact else (tensors, dy_TD)
    expected = run(*oracle, backend="reference", **words)
    return max(relative_error(a, b) for a, b in zip(found, expected))


def assert_close(activation, words, bound=OF_SUMS, flip=OF_A_FLIP, **shape):
    """To the oracle, on the first of 4 draws in which no code flips. What quantizes a sum may round it to the other side
    where it lies at a boundary: boundaries are seldom missed by less than a sum's error, but among thousands of values
    it happens."""
    for seed in range(4):
        error = worst_error(activation, seed, words, **shape)
        if error <= bound:
            return
        assert error <= flip
    pytest.fail(f"each of 4 draws differs from the oracle by more than {bound}")


@pytest.mark.slow
@pytest.mark.parametrize("dials, activation", CASES)
def test_values_and_gradients_differ_from_the_oracle_in_float64_by_the_order_of_sums(dials, activation):
    assert_close(activation, dict(precision=precision(dials)))


@pytest.mark.parametrize("stochastic", [False, True])
def test_fp8_weight_gradients_of_several_blocks_of_an_expert_are_the_oracles(stochastic):
    """Of about 150 rows an expert and of none: a whole block, a short one, and noise that counts them. Rounded to bf16 first,
    few of so many values flip."""
    dials = Quantization("fp8", stochastic_rounding=stochastic, fp8_weight_gradients=True)
    words = dict(activation="relu2", precision=precision(dials, "emulated"), key_4=KEY_4)
    worst = []
    for seed in range(4):
        tensors, dy_TD = drawn("relu2", tokens=300, experts=3, top_k=1, kind="two experts", width=128, seed=seed)
        found, expected = (run(tensors, dy_TD, backend=backend, **words) for backend in ("torch", "reference"))
        worst.append(max(relative_error(found[at], expected[at]) for at in (2, 3)))
    assert min(worst) <= OF_SUMS and max(worst) <= OF_A_FLIP


@pytest.mark.slow
def test_the_fused_backends_output_differs_from_the_oracle_in_float64_by_the_order_of_sums():
    """Equal widths share their compilations, which take seconds each."""
    words = dict(activation="relu2", precision=precision("nvfp4"))
    for seed in range(4):
        tensors, dy_TD = drawn("relu2", width=64, expert_width=64, seed=seed)
        found = moe_mlp(*tensors, backend="inductor", **words)
        error = relative_error(found, moe_mlp(*in_float64(tensors, dy_TD)[0], backend="reference", **words))
        if error <= OF_SUMS:
            return
        assert error <= OF_A_FLIP
    pytest.fail("each of 4 draws differs from the oracle by more than the order of sums")


@pytest.mark.slow
def test_fused_rounding_draws_the_codes_of_unfused_rounding():
    (x_TD, *_), _ = drawn("relu2", width=64, expert_width=64)
    makes = (Quantizer(Quantization.recipe("nvfp4"), Arithmetic.of("full"), KEY_4, fused) for fused in (True, False))
    row_T = torch.arange(len(x_TD), dtype=torch.int32)
    fused, plain = (make.rows(x_TD, "gradient", "gradient", row_T) for make in makes)
    assert torch.equal(fused.values, plain.values) and torch.equal(fused.divisor, plain.divisor)


@pytest.mark.parametrize("format", FORMATS)
def test_tensors_that_are_not_contiguous_have_the_bits_of_their_copies(format):
    (x, w_up, w_down, expert_TK, weight), dy_TD = drawn("swiglu")
    strided = (x.t().contiguous().t(), *(w.mT.contiguous().mT for w in (w_up, w_down)), expert_TK, weight)
    words = dict(activation="swiglu", precision=precision(format), key_4=KEY_4)
    found, expected = (run(tensors, dy_TD, **words) for tensors in (strided, (x, w_up, w_down, expert_TK, weight)))
    assert not strided[1].is_contiguous() and all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize("dials, activation", CASES[::2])
def test_every_dial_changes_the_result(dials, activation):
    """But for those that change the backward only, in which the gradients differ."""
    tensors, dy_TD = drawn(activation)
    recipe = precision(dials.format)
    if precision(dials) == recipe:
        recipe = precision("nvfp4" if dials.format == "fp8" else "fp8")
    ours, others = (run(tensors, dy_TD, activation=activation, precision=p) for p in (precision(dials), recipe))
    assert not all(torch.equal(a, b) for a, b in zip(ours, others))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "shape",
    [
        dict(tokens=1),
        dict(tokens=1, experts=1, top_k=1),
        dict(kind="one expert"),
        dict(experts=9, kind="two experts"),
        dict(top_k=1),
        dict(top_k=4),
        dict(tokens=16, experts=1, top_k=1),
        dict(tokens=17, experts=1, top_k=1),
    ],
    ids=str,
)
def test_edge_cases_differ_from_the_oracle_by_the_order_of_sums(shape, format):
    assert_close("swiglu", dict(precision=precision(format)), **shape)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("left", ["some", "one full segment", "none"])
def test_dropped_rows_differ_from_the_oracle_by_the_order_of_sums(left, format):
    (x, w_up, w_down, expert_TK, weight), dy_TD = drawn("relu2", tokens=16)
    dropped_TK = {
        "some": torch.rand(expert_TK.shape, generator=torch.Generator().manual_seed(0)) < 0.3,
        "one full segment": torch.tensor([False, True]).expand(16, 2),
        "none": torch.ones(16, 2, dtype=torch.bool),
    }[left]
    if left == "one full segment":
        expert_TK = torch.full_like(expert_TK, 2)
    tensors = (x, w_up, w_down, expert_TK.masked_fill(dropped_TK, -1), weight)
    words = dict(activation="relu2", precision=precision(format), key_4=KEY_4)
    found = run(tensors, dy_TD, backend="torch", **words)
    expected = run(*in_float64(tensors, dy_TD), backend="reference", **words)
    errors = [relative_error(a, b) for a, b in zip(found, expected)]
    assert max(errors) <= (0 if left == "none" else OF_A_FLIP), errors
    assert not found[4][dropped_TK].any()


@pytest.mark.parametrize("format", FORMATS)
def test_experts_without_rows_get_zero_gradients(format):
    (x, w_up, w_down, _, weight), dy_TD = drawn("relu2")
    tensors = (x, w_up, w_down, torch.tensor([[0, 2]] * len(x)), weight)
    _, _, dw_up, dw_down, _ = run(tensors, dy_TD, activation="relu2", precision=precision(format))
    assert [bool(g[e].any()) for g in (dw_up, dw_down) for e in range(4)] == [True, False, True, False] * 2


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_batch_without_tokens_gives_no_rows_and_zero_gradients_of_weights(backend, format):
    (x, w_up, w_down, expert_TK, weight), dy_TD = drawn("swiglu")
    tensors = (x[:0], w_up, w_down, expert_TK[:0], weight[:0])
    words = dict(activation="swiglu", precision=precision(format), backend=backend)
    y, dx, dw_up, dw_down, dweight = run(tensors, dy_TD[:0], **words)
    assert (y.shape, dx.shape, dweight.shape) == ((0, 256), (0, 256), (0, 2))
    assert not dw_up.any() and not dw_down.any()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_tensors_of_zeros_give_zeros(backend, format):
    (x, w_up, w_down, expert_TK, weight), dy_TD = drawn("relu2")
    zeros = (torch.zeros_like(x), w_up, torch.zeros_like(w_down), expert_TK, weight)
    results = run(zeros, torch.zeros_like(dy_TD), activation="relu2", precision=precision(format), backend=backend)
    assert not any(t.any() for t in results)


@pytest.mark.parametrize("arithmetic", ["full", "emulated", "native"])
@pytest.mark.parametrize("format", FORMATS)
def test_two_runs_have_the_same_bits(format, arithmetic):
    tensors, dy_TD = drawn("swiglu")
    words = dict(activation="swiglu", precision=precision(format, arithmetic), key_4=KEY_4)
    first, second = (run(tensors, dy_TD, **words) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize("dials, activation", CASES[::2])
def test_emulated_bf16_rounds_what_enters_a_quantizer_or_a_product_and_nothing_else(dials, activation):
    assert_close(activation, dict(precision=precision(dials, "emulated")), bound=OF_BF16_FLIPS, flip=OF_A_SCALE, exact=False)


@pytest.mark.parametrize("format, bound", [("fp8", 3e-2), ("nvfp4", 1e-1), ("mxfp8", 3e-2), ("mxfp4", 1e-1)])
def test_native_bf16_flips_a_share_of_the_codes(format, bound):
    """Sums leave a native product rounded to 8 bits, so 3% of the codes of what follows flip, by a step of at most 1/8 (fp8)
    or 1/2; 2.3e-2 and 7.8e-2 over 3 draws of every case."""
    assert worst_error("relu2", 0, dict(precision=precision(format, "native")), exact=False) <= bound


@pytest.mark.parametrize("arithmetic", ["full", "native"])
@pytest.mark.parametrize("others", [0, 31, 79])
@pytest.mark.parametrize("format", FORMATS)
def test_a_tokens_output_has_the_same_bits_whatever_else_is_in_the_batch(format, others, arithmetic):
    """In nvfp4 given the tensors' largest elements, which make their scales: token 0 holds those of input and hidden."""
    (x, w_up, w_down, expert_TK, weight), _ = drawn("relu2", tokens=80, top_k=3)
    x[0], weight[0] = 8 * x[0], 1.0
    words = dict(activation="relu2", precision=precision(format, arithmetic))
    together = moe_mlp(x, w_up, w_down, expert_TK, weight, **words)
    chosen = torch.randperm(79, generator=torch.Generator().manual_seed(others))[: others + 1] + 1
    chosen = torch.cat([torch.tensor([0]), chosen]) if format == "nvfp4" else chosen
    alone = moe_mlp(x[chosen], w_up, w_down, expert_TK[chosen], weight[chosen], **words)
    assert torch.equal(alone, together[chosen])


def test_in_nvfp4_the_largest_element_of_the_batch_reaches_every_token():
    """Which is why batch invariance needs it given: the one thing that tokens share."""
    (x, w_up, w_down, expert_TK, weight), _ = drawn("relu2")
    other = x.clone()
    other[0] *= 8
    before, after = (
        moe_mlp(part, w_up, w_down, expert_TK, weight, activation="relu2", precision=precision("nvfp4")) for part in (x, other)
    )
    assert not torch.equal(before[1:], after[1:])


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize(
    "format, width, expert_width, said",
    [
        ("fp8", 192, 128, "fp8 has blocks of 128, which do not divide the width 192"),
        ("fp8", 128, 64, "fp8 has blocks of 128, which do not divide the expert width 64"),
        ("nvfp4", 24, 16, "nvfp4 has blocks of 16, which do not divide the width 24"),
        ("mxfp4", 48, 32, "mxfp4 has blocks of 32, which do not divide the width 48"),
        ("nvfp4", 16, 40, "nvfp4 has blocks of 16, which do not divide the expert width 40"),
    ],
)
def test_widths_that_blocks_do_not_divide_are_refused(format, width, expert_width, said, backend):
    (x, *rest), _ = drawn("relu2", width=width, expert_width=expert_width)
    with pytest.raises(ValueError, match=said):
        moe_mlp(x, *rest, activation="relu2", precision=precision(format), backend=backend)
