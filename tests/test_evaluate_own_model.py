"""Our transformer as a language model: packed rows read as if alone, argmax and nats as the logits say."""

import pytest
import torch
from test_model_transformer import SHAPES, batch, build
from torch.nn.functional import cross_entropy

from harness.evaluate import own_model
from harness.evaluate.language_model import nats_and_hits
from harness.evaluate.own_model import OwnModel


@pytest.mark.parametrize("chunk", [7, 1024])
@pytest.mark.parametrize("shape", SHAPES)
def test_nats_and_hits_are_those_of_the_logits_whatever_the_chunk(shape, chunk, monkeypatch):
    monkeypatch.setattr(own_model, "HEAD_TOKENS", chunk)
    model, (token_BS, target_BS) = build(shape), batch()
    with torch.no_grad():
        logits_BSV = model.logits(token_BS)
    target_BS[0] = logits_BSV[0].argmax(-1)
    nats_BS, hit_BS = OwnModel(model).score(token_BS, target_BS)
    expected = cross_entropy(logits_BSV.flatten(0, 1), target_BS.flatten(), reduction="none").view(4, 12)
    torch.testing.assert_close(nats_BS, expected, rtol=1e-5, atol=1e-6)
    assert nats_BS.dtype == torch.float32 and not nats_BS.requires_grad
    assert torch.equal(hit_BS, logits_BSV.argmax(-1) == target_BS) and hit_BS[0].all() and not hit_BS.all()


def test_the_logits_of_a_whole_batch_are_never_there_at_once(monkeypatch):
    monkeypatch.setattr(own_model, "HEAD_TOKENS", 10)
    model, seen = build("dense"), []
    logits = model.head.logits
    monkeypatch.setattr(model.head, "logits", lambda x_TD: seen.append(len(x_TD)) or logits(x_TD))
    OwnModel(model).score(*batch())
    assert seen == [10, 10, 10, 10, 8]


def test_ties_go_to_the_lowest_id():
    model = build("dense", head_std=0.0)  # every logit is zero
    hit_BS = OwnModel(model).score(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[0, 1, 30]]))[1]
    assert hit_BS.tolist() == [[True, False, False]]


@pytest.mark.parametrize("precision", ["full", "emulated", "native"])
@pytest.mark.parametrize("shape", SHAPES)
def test_default_positions_and_visibility_said_aloud_change_nothing_but_rounding(shape, precision):
    model, (token_BS, target_BS) = OwnModel(build(shape, precision)), batch()
    position_BS = torch.arange(12).expand(4, 12)
    causal_BSS = torch.ones(12, 12, dtype=torch.bool).tril().expand(4, 12, 12)
    plain, said = model.score(token_BS, target_BS), model.score(token_BS, target_BS, position_BS, causal_BSS)
    tolerance = 1e-5 if precision == "full" else 3e-2  # bf16 attention in another order
    torch.testing.assert_close(said[0], plain[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_branches_of_a_packed_row_read_as_sequences_of_their_own(shape):
    model = OwnModel(build(shape))
    prefix, first, second = [3, 9, 4, 1], [7, 2, 2], [5, 8, 11, 6]
    row = prefix + first + second
    position_BS = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7]])
    branch_S = torch.tensor([0] * 4 + [1] * 3 + [2] * 4)
    seen_SS = (branch_S[None, :] == 0) | (branch_S[None, :] == branch_S[:, None])
    visible_BSS = (seen_SS & (position_BS[0][None, :] <= position_BS[0][:, None]))[None]
    target_BS = torch.tensor([row[1:] + [0]])
    packed = model.score(torch.tensor([row]), target_BS, position_BS, visible_BSS)[0][0]
    for part, place in ((first, slice(4, 7)), (second, slice(7, 11))):
        targets = torch.tensor([prefix[1:] + [0] + target_BS[0, place].tolist()])
        alone = model.score(torch.tensor([prefix + part]), targets)[0][0]
        torch.testing.assert_close(packed[place], alone[4:], rtol=1e-5, atol=1e-5)


def test_a_row_may_be_longer_than_the_context_and_a_sequence_may_not():
    model = OwnModel(build("dense"))
    token_BS = torch.randint(31, (1, 20), generator=torch.Generator().manual_seed(0))
    halves_BS = torch.arange(10).repeat(2)[None]
    half_S = torch.arange(20) // 10
    visible_BSS = ((half_S[None, :] == half_S[:, None]) & torch.ones(20, 20, dtype=torch.bool).tril())[None]
    packed = model.score(token_BS, token_BS, halves_BS, visible_BSS)[0]
    alone = model.score(token_BS.view(2, 10), token_BS.view(2, 10))[0]
    torch.testing.assert_close(packed.view(2, 10), alone, rtol=1e-5, atol=1e-5)
    with pytest.raises(AssertionError, match="a sequence of 20 tokens"):
        model.score(token_BS, token_BS)


def test_scoring_changes_no_gradient_mode_and_no_weights():
    model = build("moe")
    before = {name: p.clone() for name, p in model.named_parameters()}
    OwnModel(model).score(*batch())
    assert torch.is_grad_enabled()
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())


def test_of_several_largest_logits_the_lowest_id_is_the_hit():
    logits_TV = torch.tensor([[1.0, 3.0, 3.0], [1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
    nats_T, hit_T = nats_and_hits(logits_TV, torch.tensor([1, 2, 0]))
    assert hit_T.tolist() == [True, False, True]
    assert nats_T[2].item() == pytest.approx(1.0986123)
