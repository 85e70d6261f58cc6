"""Between the last norm and the objective: the cap on logits, and targets further ahead than the next token."""

import math

import micro
import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.errors import UserError
from harness.evaluate.bpb import score
from harness.evaluate.own_model import OwnModel
from harness.model import transformer
from harness.model.ahead import targets_ahead
from harness.model.where import Where
from harness.optim.ahead import AheadLoss
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.ranks import Ranks
from harness.targets import IGNORED
from harness.train.clock import Clock
from harness.train.warmup import warm_up

FP32 = "precision.format=fp32"
AHEAD = ("ahead.weights=[0.5,0.25]", "ahead.until=0.5")  # of 32 steps: 0 from the 17th on


def gradients(session, index=0):
    """loss, auxiliary losses and gradients of a step, before any update."""
    batch = session.batches.batch(index, session.ranks.rank, session.ranks.world)
    loss, _, _, _, auxiliary = session._gradients(index, *batch, measured=False)
    found = {name: p.grad.clone() for name, p in session.optimizer.parameters.items()}
    session.optimizer.clear_gradients()
    return float(loss), {name: float(v) for name, v in auxiliary.items()}, found


def close(found, expected):
    for name, gradient in expected.items():
        assert gradient.any(), name
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7)


# The cap on logits


def test_a_softcap_bends_logits_below_it_after_the_gain_wherever_they_are_read():
    plain, capped = (micro.lively(FP32, "gains.logits=8", *words).model for words in ((), ("gains.softcap=2",)))
    inputs, targets = micro.session().batches.batch(0, 0, 1)
    with torch.no_grad():
        bare = plain.logits(inputs).double()
        expected = 2 * torch.tanh(bare / 2)
        assert float(bare.abs().max()) > 4 > 2 >= float(capped.logits(inputs).abs().max())
        torch.testing.assert_close(capped.logits(inputs).double(), expected, rtol=1e-4, atol=1e-5)
        nats_BS = cross_entropy(expected.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        for found in (capped(Where(inputs), targets).nats_BS, OwnModel(capped).score(inputs, targets)[0]):
            torch.testing.assert_close(found.double(), nats_BS, rtol=1e-4, atol=1e-5)


def test_a_softcap_far_above_the_logits_is_none_and_its_gradient_far_below_them_is_finite():
    close(gradients(micro.lively(FP32, "gains.softcap=100000"))[2], gradients(micro.lively(FP32))[2])
    tight = gradients(micro.lively(FP32, "gains.softcap=0.1", "gains.logits=1000000"))[2]
    assert all(torch.isfinite(gradient).all() for gradient in tight.values())


# Targets further ahead


def test_targets_ahead_end_with_their_row_and_with_what_ends_their_document():
    """Tokens 10 to 15, of which 12 and 15 are the end-of-text that begins a document: 15 is the last target of all."""
    target_BS, document_BS = torch.tensor([[11, 12, 13, 14, 15]]), torch.tensor([[0, 0, 1, 1, 1]])
    none = IGNORED
    assert targets_ahead(target_BS, (2, 4), None).tolist() == [[[12, 13, 14, 15, none]], [[14, 15, none, none, none]]]
    assert targets_ahead(target_BS, (2, 3), document_BS).tolist() == [
        [[12, none, 14, 15, none]],
        [[none, none, 15, none, none]],
    ]


def in_fp64(model, inputs, target_BS, weights, document_BS=None):
    """({distance: CE}, objective): sums over tokens by the definition, one row and token at a time, of the
    model's own trunk; the head in fp64."""
    x_BSD, weight_DV = model.trunk(Where(inputs, document_BS=document_BS))[0].double(), model.head.weight.double()
    logits = x_BSD * torch.rsqrt(x_BSD.square().mean(-1, keepdim=True) + 1e-6) @ weight_DV
    share = logits - logits.logsumexp(-1, keepdim=True)
    sums = dict.fromkeys((1, *weights), torch.zeros((), dtype=torch.float64))
    rows, length = target_BS.shape
    for row in range(rows):
        for at in range(length):
            for distance in sums:
                if at + distance > length:
                    continue
                if document_BS is not None and document_BS[row, at + distance - 1] != document_BS[row, at]:
                    continue
                sums[distance] = sums[distance] - share[row, at, target_BS[row, at + distance - 1]]
    objective = sums[1] + sum(weight * sums[distance] for distance, weight in weights.items())
    return {distance: float(nats.detach()) for distance, nats in sums.items()}, objective


@pytest.mark.parametrize("documents", [False, True])
def test_the_gradient_is_that_of_the_definition_and_the_loss_is_the_next_tokens_alone(documents, monkeypatch):
    session = micro.lively(FP32, "balance=none", *AHEAD)
    inputs, targets = session.batches.batch(3, 0, 1)
    document_BS = torch.arange(inputs.numel()).floor_divide(7).view_as(inputs) if documents else None
    monkeypatch.setattr(session, "_documents", lambda index, parts: [document_BS])
    loss, auxiliary, found = gradients(session, 3)
    weights = {2: 0.5 * (1 - 3.5 / 16), 3: 0.25 * (1 - 3.5 / 16)}
    assert session.ahead.weights(3) == pytest.approx(weights)
    sums, objective = in_fp64(session.model, inputs, targets, weights, document_BS)
    (objective / 256).backward()
    assert loss == pytest.approx(sums[1] / 256, rel=1e-6)
    assert auxiliary == pytest.approx({f"ahead_{k}": sums[k] / 256 for k in (2, 3)}, rel=1e-6)
    close(found, {name: p.grad for name, p in session.optimizer.parameters.items()})


def test_a_weight_of_zero_takes_no_work_and_keeps_the_distances_of_the_others():
    session = micro.lively(FP32, "ahead.weights=[0,0.25]")
    assert list(session.ahead.weights(0)) == [3] and list(gradients(session)[1]) == ["ahead_3"]
    both = micro.lively(FP32, "ahead.weights=[0.5,0.25]")
    assert gradients(both)[1]["ahead_3"] == pytest.approx(gradients(session)[1]["ahead_3"], rel=1e-6)


@pytest.mark.parametrize("word", ["parallel.micro_batch_tokens=64", "parallel.activation_checkpointing=true", "chunks"])
def test_however_a_step_is_cut_values_and_gradients_stay(word, monkeypatch):
    words = (FP32, "balance=none", *AHEAD)
    whole = gradients(micro.lively(*words))
    if word == "chunks":
        monkeypatch.setitem(transformer.LOGITS_AT_ONCE, "cpu", 100 * 256)
    cut = gradients(micro.lively(*words, *([] if word == "chunks" else [word])))
    assert cut[0] == pytest.approx(whole[0], rel=1e-6) and cut[1] == pytest.approx(whole[1], rel=1e-5)
    close(cut[2], whole[2])


def test_what_two_ranks_have_of_it_adds_up_to_the_whole():
    words = ("init.zero_output=false", FP32, "balance=none", *AHEAD)
    found = []
    for ranks in (micro.ALONE, Ranks(0, 2), Ranks(1, 2)):
        session = micro.session(*words, ranks=ranks)
        with torch.no_grad():
            session.model.head.weight.normal_(0, 0.25, generator=torch.Generator().manual_seed(1))
        found.append(gradients(session))
    (_, auxiliary, whole), *shares = found
    assert auxiliary == pytest.approx({k: sum(share[1][k] for share in shares) for k in auxiliary}, rel=1e-5)
    close({name: sum(share[2][name] for share in shares) for name in whole}, whole)


def test_weights_fall_to_zero_and_then_nothing_is_left_of_them(monkeypatch):
    ahead, plain = micro.lively(FP32, *AHEAD), micro.lively(FP32)
    falling = [ahead.ahead.weights(step).get(2, 0.0) for step in range(32)]
    assert falling[:2] == pytest.approx([0.5 * (1 - 0.5 / 16), 0.5 * (1 - 1.5 / 16)]) and falling[15] > 0 == sum(falling[16:])
    seen = []
    head = type(ahead.model.head)
    nats = head._nats
    monkeypatch.setattr(head, "_nats", lambda self, x_TD, target_T: seen.append(target_T.ndim) or nats(self, x_TD, target_T))
    (loss, auxiliary, found), (expected, _, wanted) = gradients(ahead, 16), gradients(plain, 16)
    assert seen == [1, 1] and loss == expected and not auxiliary
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_scoring_looks_no_further_than_the_next_token(monkeypatch):
    ahead, plain = (micro.lively(FP32, *words) for words in (AHEAD, ()))
    monkeypatch.setattr(AheadLoss, "targets", None)
    text_N = plain.corpus.val[:300]
    found, expected = (score(s.model, text_N, 64).nats_N for s in (ahead, plain))
    assert (found == expected).all()


def test_without_weights_none_of_it_runs(monkeypatch):
    """Hence bits are what they were."""
    session = micro.session()

    def never(*_, **__):
        raise AssertionError("called")

    monkeypatch.setattr(AheadLoss, "shares", never)
    monkeypatch.setattr("harness.optim.ahead.targets_ahead", never)
    session.step(0)
    with pytest.raises(AssertionError, match="called"):
        micro.session("ahead.weights=[0.5]").step(0)


def test_the_warm_up_meets_the_step_without_targets_ahead_too(monkeypatch):
    """Or else it would be compiled on the clock, as soon as the weights are 0."""
    session, steps = micro.session(*AHEAD), []
    step = session.step
    monkeypatch.setattr(session, "step", lambda index, **words: steps.append(index) or step(index, **words))
    warm_up(session, Clock(), session.corpus.val[:300], 0, None)
    assert steps == [0, 16, 0, 1]
    staged = micro.session(*AHEAD, "batch.stages=[256,512]")  # 16 steps, then 8: the weights are 0 where the second begins
    assert staged.ahead.kinds(0) == [0, 16] and staged.ahead.kinds(18) == [18]
    assert session.ahead.kinds(16) == [16] and micro.session("ahead.weights=[1]").ahead.kinds(0) == [0]


# Both


DIALS = ("gains.softcap=1", "ahead.weights=[0.5]", "ahead.weights=[0.5,0.25]", "ahead.weights=[0.5] ahead.until=0.5")


def test_every_dial_moves_bits_and_trains():
    losses = {}
    for words in ("", *DIALS):
        session = micro.session(*words.split())
        losses[words] = [float(session.step(index).loss) for index in range(6)]
    assert len({tuple(found) for found in losses.values()}) == len(losses), losses
    assert all(found[-1] < found[0] == pytest.approx(math.log(256)) for found in losses.values())


@pytest.mark.slow
def test_compiled_the_dials_turn_too_and_falling_weights_compile_nothing_again():
    said = []
    for words in ((), ("gains.softcap=1",), AHEAD):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        session = micro.lively(FP32, *words)
        eager = gradients(session)
        session.model.head.compile(fullgraph=True, dynamic=False)
        compiled = gradients(session)
        assert compiled[0] == pytest.approx(eager[0], rel=1e-5) and compiled[1] == pytest.approx(eager[1], rel=1e-5)
        close(compiled[2], eager[2])
        said.append(compiled[2]["head.weight"])
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert graphs == 1
    assert not torch.equal(said[0], said[1]) and not torch.equal(said[0], said[2])
    for index, graphs in ((1, 1), (9, 1), (15, 1), (16, 2), (31, 2)):  # one more for what has no targets ahead
        gradients(session, index)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


@pytest.mark.parametrize(
    "words, said",
    [
        (["gains.softcap=-1"], "gains.softcap=-1"),
        (["gains.softcap=nan"], "gains.softcap=nan"),
        (["gains.softcap=0.05"], "gains.softcap=0.05"),
        (["ahead.weights=[-0.5]"], "ahead.weights=[-0.5]"),
        (["ahead.weights=[inf]"], "ahead.weights=[inf]"),
        (["ahead.weights=[0.5,0]"], "ahead.weights=[0.5, 0.0] ends with 0"),
        ([f"ahead.weights=[{','.join(['0.1'] * 31)}]"], "the token 32 ahead"),
        (["ahead.weights=[0.5]", "ahead.until=0"], "0 from the first of 32 steps on"),
        (["ahead.weights=[0.5]", "ahead.until=0.01"], "0 from the first of 32 steps on"),
        (["ahead.weights=[0.5]", "ahead.until=1.5"], "ahead.until=1.5"),
    ],
)
def test_bad_values_are_refused_with_what_to_type(words, said):
    with pytest.raises(UserError) as error:
        compose([*micro.MOE, *words])
    assert said in error.value.problem and error.value.remedy


def test_a_target_ahead_of_all_but_the_longest_row_trains():
    session = micro.lively(FP32, f"ahead.weights=[{','.join(['0'] * 29)},0.1]")
    assert gradients(session)[1]["ahead_31"] > 0


def test_at_their_defaults_the_dials_change_no_hash_and_any_recipe_may_turn_them():
    lane = "lane=tiny-moe-16e"
    plain = plan_hash(compose([lane]).plan)
    assert plan_hash(compose([lane, "gains.softcap=0", "ahead.weights=[]", "ahead.until=1"]).plan) == plain
    for words in (["gains.softcap=15"], ["ahead.weights=[0.5]"], ["ahead.weights=[0.5]", "ahead.until=0.8"]):
        composed = compose([lane, *words])
        assert plan_hash(composed.plan) != plain and not composed.broken
