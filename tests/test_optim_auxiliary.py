"""The auxiliary losses against numbers worked out by hand, and under every way to cut a step."""

import math

import micro
import pytest
import torch

from harness.model import feedforward
from harness.model.auxiliary import terms
from harness.model.router.sigmoid_topk import SigmoidTopK
from harness.model.router.softmax_topk import SoftmaxTopK
from harness.model.routing import Routing, count_rows
from harness.model.where import Where
from harness.optim.auxiliary import AuxiliaryLosses, wanted
from harness.plan.compose import compose
from harness.plan.schema import Balance, Model
from harness.train.session import Session

ALL = ("balance.aux_loss_coef=0.5", "balance.sequence_loss_coef=0.25", "balance.z_loss_coef=0.125")
SHAPE = dict(width=2, layers=1, heads=1, sequence_length=2, vocab_size=9, ffn_width=0, num_experts=2, expert_width=1, top_k=1)


def routing(score_TE, chosen_TK, logit_TE=None):
    score_TE, expert_TK = torch.tensor(score_TE), torch.tensor(chosen_TK)
    count_E = count_rows(expert_TK, score_TE.shape[1])
    return Routing(expert_TK, torch.ones(expert_TK.shape), count_E, torch.zeros(()), logit_TE, score_TE)


def losses(words, model):
    """AuxiliaryLosses of a plan with the coefficients of `words` and the shape `model`."""
    plan = compose([*micro.MOE, "balance=none", *words]).plan
    plan.model = Model(**model)
    return AuxiliaryLosses(plan)


FOUR = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]  # two sequences of two tokens


def test_the_switch_loss_by_hand():
    """f = (3/4, 1/4), P = ((.9 + .8 + .6 + .3) / 4, ...) = (.65, .35): 2 x (.75 x .65 + .25 x .35) = 1.15."""
    of_step = losses(["balance.aux_loss_coef=0.01"], SHAPE)
    found = terms(("aux_loss",), routing(FOUR, [[0], [0], [0], [1]]), 2)
    torch.testing.assert_close(found["aux_loss"], torch.tensor([2.6, 1.4]))
    shares_L = of_step.shares({"aux_loss": found["aux_loss"][None]}, torch.tensor([[3, 1]]), 4)
    assert shares_L["aux_loss"].tolist() == pytest.approx([1.15])
    assert float(of_step.objective(shares_L)) == pytest.approx(0.0115)


def test_the_sequence_loss_by_hand():
    """Sequence 1: f = 2/(1 x 2) x (2, 0) = (2, 0), P = (.85, .15): 1.7. Sequence 2: f = (1, 1), P = (.45, .55): 1. Mean 1.35;
    over the step as one the Switch loss is 1.15, which is why the two are not the same."""
    of_step = losses(["balance.sequence_loss_coef=0.01"], SHAPE)
    found = terms(("sequence_loss",), routing(FOUR, [[0], [0], [0], [1]]), 2)
    assert float(found["sequence_loss"]) == pytest.approx(2.7)
    shares_L = of_step.shares({"sequence_loss": found["sequence_loss"][None]}, None, 4)
    assert shares_L["sequence_loss"].tolist() == pytest.approx([1.35])
    assert float(of_step.objective(shares_L)) == pytest.approx(0.0135)


def test_the_sequence_loss_counts_the_largest_scores_whatever_a_bias_selected():
    """Equation 18: the K largest of s, without the bias that selected expert 1 everywhere."""
    a, b = (terms(("sequence_loss",), routing(FOUR, [[e] for e in ids]), 2) for ids in ((1, 1, 1, 1), (0, 0, 0, 1)))
    assert torch.equal(a["sequence_loss"], b["sequence_loss"])


def test_scores_that_do_not_sum_to_one_are_shared_out():
    """Sigmoids (.9, .9) and (.6, .2) are shares (.5, .5) and (.75, .25)."""
    found = terms(("aux_loss",), routing([[0.9, 0.9], [0.6, 0.2]], [[0], [0]]), 2)
    torch.testing.assert_close(found["aux_loss"], torch.tensor([1.25, 0.75]))


def test_the_z_loss_by_hand():
    """Logits (0, 0): ln 2; (ln 3, 0): ln 4; the other two ln 2 again. Mean of squares (3 ln2^2 + 4 ln2^2) / 4."""
    logit_TE = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [0.0, 0.0], [0.0, 0.0]])
    of_step = losses(["balance.z_loss_coef=0.001"], SHAPE)
    found = terms(("z_loss",), routing(FOUR, [[0]] * 4, logit_TE), 2)
    assert of_step.shares({"z_loss": found["z_loss"][None]}, None, 4)["z_loss"].tolist() == pytest.approx(
        [1.75 * math.log(2) ** 2]
    )


@pytest.mark.parametrize("router", [SigmoidTopK, SoftmaxTopK])
def test_balance_costs_one_and_one_expert_for_all_costs_the_number_of_experts(router):
    shape = SHAPE | dict(num_experts=4, width=4)
    module = router(Model(**shape))
    for weight_DE, cost in ((torch.eye(4) * 30, 1.0), (torch.tensor([[30.0, -30, -30, -30]] * 4), 4.0)):
        with torch.no_grad():
            module.weight.copy_(weight_DE)
        x_TD = torch.eye(4).repeat(2, 1)  # each expert twice, or the first for all
        if cost == 1.0 and router is SigmoidTopK:
            x_TD = 2 * x_TD - 1  # far from the sigmoid's middle
        found = module(x_TD, torch.arange(8))
        of_layer = terms(("aux_loss", "sequence_loss"), found, 4)
        of_step = losses(["balance.aux_loss_coef=1", "balance.sequence_loss_coef=1"], shape | dict(sequence_length=4))
        shares_L = of_step.shares({name: t[None].detach() for name, t in of_layer.items()}, found.count_E[None], 8)
        assert [t.item() for t in shares_L.values()] == pytest.approx([cost, cost], rel=1e-4)


def test_only_losses_with_a_coefficient_are_computed():
    assert wanted(Balance()) == () and wanted(Balance(z_loss_coef=1e-3, aux_loss_coef=1.0)) == ("aux_loss", "z_loss")
    session = micro.session()
    inputs, targets = session.batches.batch(0, 0, 1)
    assert session.model(Where(inputs), targets).terms == {}


def gradients(session, index=0):
    """loss, auxiliary losses and gradients of a step, before any update."""
    loss, _, _, _, auxiliary = session._gradients(index, *session.batches.batch(index, 0, 1), measured=False)
    found = {name: p.grad.clone() for name, p in session.optimizer.parameters.items()}
    session.optimizer.clear_gradients()
    return float(loss), {name: float(v) for name, v in auxiliary.items()}, found


WORDS = ("balance=none", "precision.format=fp32", "model.router=softmax_topk", *ALL)


@pytest.mark.parametrize("word", ["parallel.micro_batch_tokens=64", "parallel.activation_checkpointing=true"])
def test_micro_batches_and_checkpointing_leave_values_and_gradients_as_they_are(word):
    """Of the Switch loss too, which is one of the whole step: within micro-batches it would be another."""
    whole, cut = (gradients(micro.lively(*WORDS, *more)) for more in ((), (word,)))
    assert cut[0] == pytest.approx(whole[0], rel=1e-6)
    assert cut[1] == pytest.approx(whole[1], rel=1e-5) and set(cut[1]) == {"aux_loss", "sequence_loss", "z_loss"}
    for name, gradient in whole[2].items():
        assert gradient.any()
        torch.testing.assert_close(cut[2][name], gradient, rtol=1e-4, atol=1e-7)


def test_the_gradient_is_that_of_the_definition_and_the_loss_is_the_cross_entropy_alone():
    """Against autograd through the definition, written out again over the whole step."""
    session = micro.lively(*WORDS, "parallel.micro_batch_tokens=64")
    inputs, targets = session.batches.batch(0, 0, 1)
    loss, _, found = gradients(session)
    output = session.model(Where(inputs), targets)
    experts = [b.feedforward for b in session.model.blocks]
    kept = {}
    hooks = [e.router.register_forward_hook(lambda m, _, out: kept.setdefault(id(m), out)) for e in experts]
    output = session.model(Where(inputs), targets)
    objective = output.nats_BS.mean()
    for e in experts:
        p_TE, logit_TE = kept[id(e.router)].score_TE, kept[id(e.router)].logit_TE
        hot_TE = torch.zeros_like(p_TE).scatter_(1, kept[id(e.router)].expert_TK, 1.0)
        objective = objective + 0.5 * 8 * (hot_TE.mean(0) / 2 * p_TE.mean(0)).sum()
        hot_BE, p_BE = hot_TE.view(8, 32, 8).mean(1), p_TE.view(8, 32, 8).mean(1)
        objective = objective + 0.25 * (8 / 2 * hot_BE * p_BE).sum(1).mean() + 0.125 * logit_TE.logsumexp(1).square().mean()
    objective.backward()
    for hook in hooks:
        hook.remove()
    assert loss == pytest.approx(float(output.nats_BS.mean()), rel=1e-6)
    for name, parameter in session.optimizer.parameters.items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["aux_loss", "sequence_loss"])
def test_a_loss_alone_balances_a_router(name):
    """Steps on one batch: the load's coefficient of variation falls."""
    words = ("balance=none", "model.router=softmax_topk", f"balance.{name}_coef=1", "optim.muon.lr=0", "optim.adamw.lr=0.01")
    session = micro.session(*words, "optim.multipliers.embedding=0", "optim.multipliers.head=0")
    results = [session.step(0) for _ in range(12)]
    first, last = ((r.count_LE.double().std(1) / r.count_LE.double().mean(1)).mean() for r in (results[0], results[-1]))
    assert last < 0.6 * first
    assert float(results[-1].auxiliary[name]) < float(results[0].auxiliary[name])


def test_the_load_of_the_step_is_that_of_the_passes_that_the_gradient_takes():
    """Under a capacity, whose dropped rows move what later layers see."""
    session = micro.lively(*WORDS, "balance.capacity_factor=1.0", "parallel.micro_batch_tokens=64")
    inputs, targets = (t.split(2) for t in session.batches.batch(0, 0, 1))
    without = sum(session.model(Where(x), y).count_LE for x, y in zip(inputs, targets))
    capacity = session.plan.expert_capacity(64)
    within = sum(session.model(Where(x, capacity=capacity), y).count_LE for x, y in zip(inputs, targets))
    assert torch.equal(session._load(inputs, [None] * 4), within) and not torch.equal(without, within)


def test_a_lane_without_any_of_this_runs_none_of_its_code(monkeypatch):
    """Hence its bits are what they were."""

    def never(*_, **__):
        raise AssertionError("called")

    session = micro.session()
    monkeypatch.setattr(AuxiliaryLosses, "shares", never)
    monkeypatch.setattr(AuxiliaryLosses, "objective", never)
    monkeypatch.setattr(Session, "_load", never)
    monkeypatch.setattr(feedforward, "drop", never)
    session.step(0)
    for word in ("balance.z_loss_coef=0.1", "balance.capacity_factor=1"):
        with pytest.raises(AssertionError, match="called"):
            micro.session(word).step(0)
