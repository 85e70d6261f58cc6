"""Selection, ties, the balancing bias, and the hash router."""

import math
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.model.router.hash import Hash
from harness.model.router.sigmoid_topk import SigmoidTopK
from harness.model.router.softmax_topk import SoftmaxTopK
from harness.model.routing import count_rows, top_k_lower_id
from harness.plan.schema import Model

SHAPE = dict(width=8, layers=1, heads=2, sequence_length=4, vocab_size=40, ffn_width=0, num_experts=6, expert_width=4, top_k=3)

finite = st.floats(width=32, allow_nan=False)
few = st.sampled_from([-1.0, -0.0, 0.0, 1e-45, 0.5, 0.5000001, float("inf"), -float("inf")])  # many ties


@settings(deadline=None, max_examples=150)
@given(scores=hnp.arrays("float32", st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=finite | few), data=st.data())
def test_top_k_equals_a_stable_sort_by_falling_score(scores, data):
    k = data.draw(st.integers(1, scores.shape[1]))
    expected = [sorted(range(len(row)), key=lambda e: -row[e])[:k] for row in scores.tolist()]
    assert top_k_lower_id(torch.from_numpy(scores), k).tolist() == expected


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000])
def test_nan_of_either_sign_sorts_above_everything(bits):
    """inf - inf is the negative one on x86."""
    nan = struct.unpack("<f", struct.pack("<I", bits))[0]
    score_TE = torch.tensor([[1.0, float("inf"), 0.0, -1.0]])
    score_TE[0, 2] = math.copysign(nan, -1.0) if bits >> 31 else nan
    assert score_TE.view(torch.int32)[0, 2].item() & 0xFFFFFFFF == bits
    assert top_k_lower_id(score_TE, 2).tolist() == [[2, 1]]


def router(seed=0, **changes):
    module = SigmoidTopK(Model(**SHAPE | changes))
    with torch.no_grad():
        module.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return module


def tokens(count, seed=1):
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), torch.arange(count)


def test_equal_scores_go_to_the_lower_expert_ids():
    module = router()
    with torch.no_grad():
        module.weight.zero_()
    routing = module(*tokens(5))
    assert routing.expert_TK.tolist() == [[0, 1, 2]] * 5
    assert routing.margin.item() == 0.0


def test_weights_are_the_chosen_scores_over_their_sum():
    x_TD, token_T = tokens(7)
    module = router()
    routing = module(x_TD, token_T)
    chosen = torch.sigmoid(x_TD @ module.weight).gather(1, routing.expert_TK)
    torch.testing.assert_close(routing.weight_TK, chosen / chosen.sum(1, keepdim=True))
    assert routing.weight_TK.dtype == torch.float32


def softmax_router(logits, **changes):
    """Logits of one token, whose input is the first unit vector."""
    module = SoftmaxTopK(Model(**SHAPE | dict(num_experts=len(logits)) | changes))
    with torch.no_grad():
        module.weight.zero_()[0] = torch.tensor(logits)
    return module(torch.eye(8)[:1], torch.zeros(1, dtype=torch.int64))


def test_softmax_top_k_by_hand():
    """Logits ln(1, 4, 2, 1): scores 1/8, 1/2, 1/4, 1/8; the two largest over their sum 2/3 and 1/3; the margin 1/4 - 1/8."""
    logits = [math.log(n) for n in (1, 4, 2, 1)]
    routing = softmax_router(logits, top_k=2)
    assert routing.expert_TK.tolist() == [[1, 2]] and routing.margin.item() == pytest.approx(1 / 8)
    torch.testing.assert_close(routing.weight_TK, torch.tensor([[2 / 3, 1 / 3]]))
    torch.testing.assert_close(routing.score_TE, torch.tensor([[1 / 8, 1 / 2, 1 / 4, 1 / 8]]))
    assert softmax_router(logits, top_k=3).expert_TK.tolist() == [[1, 2, 0]]  # a tie, to the lower id


def test_without_renormalization_the_weights_are_the_scores_and_top_1_learns():
    routing = softmax_router([math.log(n) for n in (1, 4, 2, 1)], top_k=1, router_renormalize=False)
    torch.testing.assert_close(routing.weight_TK, torch.tensor([[1 / 2]]))
    (gradient,) = torch.autograd.grad(routing.weight_TK.sum(), [routing.logit_TE])
    torch.testing.assert_close(gradient, torch.tensor([[-1 / 16, 1 / 4, -1 / 8, -1 / 16]]))  # s1 (delta - s)
    x_TD, token_T = tokens(7)
    module = router(router_renormalize=False)
    chosen = torch.sigmoid(x_TD @ module.weight).gather(1, module(x_TD, token_T).expert_TK)
    assert torch.equal(module(x_TD, token_T).weight_TK, chosen)


def test_the_bias_moves_the_selection_and_leaves_the_weights_unbiased():
    x_TD, token_T = tokens(7)
    module = router()
    module.bias[4] = 10.0
    routing = module(x_TD, token_T)
    assert (routing.expert_TK[:, 0] == 4).all()
    chosen = torch.sigmoid(x_TD @ module.weight).gather(1, routing.expert_TK)
    torch.testing.assert_close(routing.weight_TK, chosen / chosen.sum(1, keepdim=True))


def test_the_bias_gets_no_gradient_and_gives_none():
    x_TD, token_T = tokens(7)
    up = torch.linspace(0, 1, 3)
    gradients = []
    for constant in (0.0, 3.0):  # the same for all experts, so the selection stays
        module = router()
        module.bias += constant
        (module(x_TD, token_T).weight_TK * up).sum().backward()
        assert module.bias.grad is None and not module.bias.requires_grad
        gradients.append(module.weight.grad)
    assert torch.equal(*gradients) and gradients[0].any()


def test_margin_is_the_mean_gap_between_the_last_chosen_and_the_first_refused():
    x_TD, token_T = tokens(9)
    module = router()
    module.bias += torch.linspace(0, 1, 6)
    ranked = (torch.sigmoid(x_TD @ module.weight) + module.bias).sort(1, descending=True).values
    torch.testing.assert_close(module(x_TD, token_T).margin, (ranked[:, 2] - ranked[:, 3]).mean())


def test_all_experts_chosen_leaves_no_margin():
    routing = router(top_k=6)(*tokens(4))
    assert routing.margin.item() == 0.0
    assert routing.count_E.tolist() == [4] * 6


@settings(deadline=None)
@given(hnp.arrays("int64", st.tuples(st.integers(0, 20), st.integers(1, 3)), elements=st.integers(0, 4)))
def test_counts_are_those_of_a_loop(ids):
    assert count_rows(torch.from_numpy(ids), 5).tolist() == [int((ids == e).sum()) for e in range(5)]


def hash_router(seed, layer):
    module = Hash(Model(**SHAPE, router="hash"))
    module.draw(seed, layer)
    return module


def test_hash_router_gives_every_token_k_distinct_experts_in_range():
    routing = hash_router(1, 0)(torch.zeros(40, 8), torch.arange(40))
    assert all(len(set(row)) == 3 and 0 <= min(row) and max(row) < 6 for row in routing.expert_TK.tolist())
    assert len(set(routing.expert_TK.flatten().tolist())) == 6
    torch.testing.assert_close(routing.weight_TK.sum(1), torch.ones(40))
    assert routing.count_E.sum().item() == 120


def test_hash_router_reads_the_token_and_nothing_else():
    module, token_T = hash_router(1, 0), torch.tensor([5, 7, 5])
    a, b = module(torch.zeros(3, 8), token_T), module(torch.randn(3, 8), token_T)
    assert torch.equal(a.expert_TK, b.expert_TK) and torch.equal(a.expert_TK[0], a.expert_TK[2])


def test_hash_router_is_keyed_by_seed_and_layer():
    tables = [hash_router(*key).table_VK for key in ((1, 0), (1, 0), (2, 0), (1, 1))]
    assert [torch.equal(tables[0], t) for t in tables] == [True, True, False, False]
