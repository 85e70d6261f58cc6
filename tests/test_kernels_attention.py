"""Causal attention: the kernel in C++ against softmax attention in fp64, its bits, and what it refuses or leaves to torch."""

import math

import pytest
import torch
from expert_inputs import IN_BRGEMM, relative_error
from torch.nn.functional import scaled_dot_product_attention

from harness.model.where import within_documents
from kernels import Arithmetic, causal_attention, document_attention, document_blocks
from kernels.attention import _backward_op, _forward_op
from kernels.cpu.brgemm import calls

ROUNDED = ("emulated", "native")  # in which probabilities and score gradients are bf16 too
LENGTHS = (32, 64, 256, 320, 544)  # a tile; several; the most that are multiplied at once, and beyond
WIDTHS = (32, 64, 96, 128)
SIZES = ((1, 3), (2, 1), (3, 3))  # batch, heads


def inputs(batch, length, heads, width, arithmetic, seed=0, gain=1.0):
    """q, k, v and the gradient of o; q and k of size `gain`."""
    draws = torch.Generator().manual_seed(seed)
    gains = (gain, gain, 1.0, 1.0)
    drawn = (torch.randn(batch, length, heads, width, generator=draws) * g for g in gains)
    return [Arithmetic.of(arithmetic).operand(t) for t in drawn]


def run(tensors, arithmetic, backend="brgemm", function=causal_attention):
    """(o, dq, dk, dv)."""
    *qkv, do_BSHA = tensors
    leaves = [t.detach().requires_grad_() for t in qkv]
    o_BSHA = function(*leaves, backend=backend, arithmetic=Arithmetic.of(arithmetic))
    return [o_BSHA.detach(), *torch.autograd.grad(o_BSHA, leaves, do_BSHA)]


def exact(tensors):
    """The same in fp64, as the formula says."""
    *qkv, do_BSHA = (t.double() for t in tensors)
    q, k, v = (t.requires_grad_() for t in qkv)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(q.shape[3])
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    o_BSHA = torch.einsum("bhij,bjhd->bihd", scores.masked_fill(later, -math.inf).softmax(-1), v)
    return [o_BSHA.detach(), *torch.autograd.grad(o_BSHA, (q, k, v), do_BSHA)]


def torchs(q, k, v, *, backend, arithmetic):
    """torch's fused attention in the dtype that the kernel rounds to."""
    dtype = torch.float32 if arithmetic.name == "full" else torch.bfloat16
    by_head = (t.to(dtype).transpose(1, 2) for t in (q, k, v))
    return scaled_dot_product_attention(*by_head, is_causal=True).transpose(1, 2).to(q.dtype)


def same(found, expected):
    return [torch.equal(a, b) for a, b in zip(found, expected, strict=True)] == [True] * len(expected)


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("width", WIDTHS)
def test_values_and_gradients_are_as_near_to_fp64_as_torchs_fused_attention(arithmetic, length, width):
    batch, heads = SIZES[(length + width) // 32 % 3]
    tensors = inputs(batch, length, heads, width, arithmetic)
    expected = exact(tensors)
    ours, theirs = (
        [relative_error(a, b) for a, b in zip(run(tensors, arithmetic, function=function), expected)]
        for function in (causal_attention, torchs)
    )
    # of one order: the sums are cut into other pieces; with operands of bf16 their rounding is all there is to see
    factor = 1.2 if arithmetic in ROUNDED else 2.0
    assert [error <= factor * bound for error, bound in zip(ours, theirs)] == [True] * 4


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
def test_a_kernel_computes_what_it_takes_and_not_torch(arithmetic, monkeypatch):
    called = []
    monkeypatch.setattr(calls, "_call", lambda name, *_: called.append(name))
    run(inputs(1, 64, 2, 32, arithmetic), arithmetic)
    assert called == ["attention_forward", "attention_backward"]


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("changed", [31, 32, 255, 256, 300, 319])
def test_a_later_token_changes_no_bit_of_an_earlier_one(arithmetic, changed):
    tensors = inputs(1, 320, 2, 32, arithmetic)
    others = [t.clone() for t in tensors]
    for t, new in zip(others[:3], inputs(1, 320, 2, 32, arithmetic, seed=1)):
        t[:, changed] = new[:, changed]
    before, after = (run(some, arithmetic)[0] for some in (tensors, others))
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.equal(before[:, changed], after[:, changed])


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
def test_a_sequence_has_the_same_bits_whatever_else_is_in_the_batch(arithmetic):
    tensors = inputs(3, 320, 2, 64, arithmetic)
    whole = run(tensors, arithmetic)
    for b in range(3):
        assert same(run([t[b : b + 1] for t in tensors], arithmetic), [t[b : b + 1] for t in whole])


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("length", [64, 320])
def test_bits_are_equal_on_repeat_and_with_any_number_of_threads(arithmetic, length):
    tensors, found = inputs(2, length, 3, 64, arithmetic), []
    for threads in (1, 1, 2, 3):
        torch.set_num_threads(threads)
        found.append(run(tensors, arithmetic))
    assert [same(again, found[0]) for again in found] == [True] * 4


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
def test_bits_do_not_depend_on_what_memory_held(arithmetic):
    tensors = inputs(2, 288, 2, 32, arithmetic)
    before = run(tensors, arithmetic)
    run([torch.full_like(t, math.nan) for t in inputs(1, 544, 1, 128, arithmetic)], arithmetic)
    assert same(run(tensors, arithmetic), before)


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("gain", [30.0, 100.0, 1e4, 1e6])
def test_large_scores_give_probabilities_of_1_at_most(arithmetic, gain):
    """Whatever the logarithm of their sum is rounded to; nearly every row sees one key alone."""
    tensors = inputs(1, 320, 2, 64, arithmetic, gain=gain)
    found, expected = run(tensors, arithmetic), exact(tensors)
    assert all(bool(torch.isfinite(t).all()) for t in found)
    assert relative_error(found[0], expected[0]) < 1e-3 and relative_error(found[3], expected[3]) < 3e-3


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_in_its_sequence_and_head(arithmetic, which, value):
    tensors = inputs(2, 96, 2, 32, arithmetic)
    clean = run(tensors, arithmetic)
    tensors[which][1, 40, 0, 3] = value
    found = run(tensors, arithmetic)
    for before, after in zip(clean, found):
        assert torch.equal(before[0], after[0]) and torch.equal(before[1, :, 1], after[1, :, 1])
    assert not torch.isfinite(found[0][1, 40:, 0]).all()
    if which == 0:
        assert torch.equal(clean[0][1, :40, 0], found[0][1, :40, 0])


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
def test_inputs_that_lie_otherwise_in_memory_give_the_same_bits(arithmetic):
    tensors = inputs(2, 64, 3, 32, arithmetic)
    otherwise = [
        tensors[0].transpose(1, 2).contiguous().transpose(1, 2),
        torch.cat([tensors[1], tensors[1]], dim=3)[..., :32],
        tensors[2].flip(1).contiguous().flip(1).permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        tensors[3].transpose(0, 3).contiguous().transpose(0, 3),
    ]
    assert [t.is_contiguous() for t in otherwise] == [False] * 4
    assert same(run(otherwise, arithmetic), run(tensors, arithmetic))


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("length, width", [(33, 32), (1, 64), (64, 16), (64, 40)])
def test_shapes_that_the_kernel_does_not_take_are_torchs(arithmetic, length, width):
    tensors = inputs(2, length, 3, width, arithmetic)
    assert same(run(tensors, arithmetic), run(tensors, arithmetic, backend="torch"))
    for a, b in zip(run(tensors, arithmetic), exact(tensors)):
        assert relative_error(a, b) < (1e-2 if arithmetic == "native" else 1e-5) or float((a - b).norm()) < 1e-2


@pytest.mark.parametrize("shape", [(0, 64, 2, 32), (2, 0, 2, 32), (2, 64, 0, 32)])
def test_what_is_empty_gives_nothing(shape):
    o_BSHA = causal_attention(*(torch.zeros(shape) for _ in range(3)), backend="brgemm", arithmetic=Arithmetic.of("full"))
    assert o_BSHA.shape == shape


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_it_compiles_without_a_graph_break_and_keeps_its_bits(arithmetic, compiler):
    tensors = inputs(2, 64, 2, 32, arithmetic)
    compiled = torch.compile(causal_attention, fullgraph=True, dynamic=False, backend=compiler)
    assert same(run(tensors, arithmetic, function=compiled), run(tensors, arithmetic))


@pytest.mark.parametrize("arithmetic", IN_BRGEMM)
def test_both_operators_keep_the_rules_of_torch_library(arithmetic):
    q, k, v, do_BSHA = inputs(1, 32, 2, 32, arithmetic)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    torch.library.opcheck(_forward_op, (*leaves, arithmetic))
    o_BSHA, lse_BHS = (t.detach() for t in _forward_op(*leaves, arithmetic))
    torch.library.opcheck(_backward_op, (do_BSHA, *(t.detach() for t in leaves), o_BSHA, lse_BHS, arithmetic))


def test_a_second_derivative_is_refused_with_what_to_use():
    q, k, v, _ = inputs(1, 32, 1, 32, "full")
    q.requires_grad_()
    o_BSHA = causal_attention(q, k, v, backend="brgemm", arithmetic=Arithmetic.of("full"))
    (dq,) = torch.autograd.grad(o_BSHA.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative.*create_graph.*torch"):
        dq.sum().backward()


BAD = {
    "an unknown backend": (dict(backend="inductor"), ["inductor", "torch, brgemm"]),
    "keys of another length": (dict(k=torch.zeros(1, 64, 2, 32)), ["k is (1, 64, 2, 32)", "q (1, 32, 2, 32)"]),
    "values of fewer heads": (dict(v=torch.zeros(1, 32, 1, 32)), ["v is (1, 32, 1, 32)"]),
    "no heads": (dict.fromkeys("qkv", torch.zeros(1, 32, 32)), ["(1, 32, 32)", "BSHA"]),
    "operands of another arithmetic": (dict(q=torch.zeros(1, 32, 2, 32).bfloat16()), ["torch.bfloat16", "'full'", "float32"]),
    "values in fp64": (dict(v=torch.zeros(1, 32, 2, 32).double()), ["v is torch.float64"]),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("backend", ["torch", "brgemm"])
def test_inputs_that_do_not_fit_are_refused_with_their_values(case, backend):
    changes, words = BAD[case]
    given = dict.fromkeys("qkv", torch.zeros(1, 32, 2, 32)) | dict(backend=backend) | changes
    tensors = [given.pop(name) for name in "qkv"]
    with pytest.raises(ValueError) as error:
        causal_attention(*tensors, **given, arithmetic=Arithmetic.of("full"))
    assert [word for word in words if word not in str(error.value)] == []


def test_blocks_of_documents_show_what_a_dense_mask_shows():
    """Forward: FlexAttention has no backward on a CPU."""
    q, k, v, _ = inputs(2, 96, 2, 32, "full")
    document_BS = torch.tensor([[0] * 40 + [1] * 56, [5] * 7 + [3] * 80 + [4] * 9])
    with torch.no_grad():
        found = document_attention(q, k, v, document_blocks(document_BS))
    by_head = (t.transpose(1, 2) for t in (q, k, v))
    expected = scaled_dot_product_attention(*by_head, attn_mask=within_documents(document_BS)[:, None]).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_blocks_of_documents_have_the_gradients_of_a_dense_mask_and_repeat_their_bits():
    q, k, v, do = (t.cuda() for t in inputs(2, 1024, 4, 64, "native"))
    document_BS = torch.randint(4, (2, 1024), generator=torch.Generator().manual_seed(0)).sort(1).values.cuda()
    blocks, mask = document_blocks(document_BS), within_documents(document_BS)[:, None]

    def gradients(attend):
        leaves = [t.detach().requires_grad_() for t in (q, k, v)]
        o_BSHA = attend(*leaves)
        return [o_BSHA.detach(), *torch.autograd.grad(o_BSHA, leaves, do)]

    def dense(*leaves):
        return scaled_dot_product_attention(*(t.transpose(1, 2) for t in leaves), attn_mask=mask).transpose(1, 2)

    found, again = (gradients(lambda *leaves: document_attention(*leaves, blocks)) for _ in range(2))
    assert same(found, again)
    assert [relative_error(a, b) < 2e-2 for a, b in zip(found, gradients(dense))] == [True] * 4
