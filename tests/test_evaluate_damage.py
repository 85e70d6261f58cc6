"""Interfering with routers: what is chosen then against the weights, that all is as before afterwards, and what costs 0."""

import math

import numpy as np
import pytest
import torch
from probes import EXPERTS, K, planned, probe
from reading import saying

from harness.evaluate.atlas.drift import jaccard, kept
from harness.evaluate.atlas.seen import seen
from harness.evaluate.damage import foretold
from harness.evaluate.damage.costs import SHARES, WHICH, Costs, nats
from harness.evaluate.damage.foretold import Earlier, distance, jensen_shannon
from harness.evaluate.damage.interfere import can_remove, exchanged, removed, router_of, with_routers


@pytest.fixture(scope="module")
def model():
    return saying(planned())


@pytest.fixture(scope="module")
def other():
    return saying(planned(), seed=2)


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def chosen(model, text):
    return [one.expert_NC[:, :K] for one in seen(model, text)]


def test_nats_are_the_cross_entropy_of_the_next_token_and_0_of_a_windows_last(model):
    text = probe()
    with torch.no_grad():
        logits_BSV = model.logits(torch.from_numpy(text.token_BS))
    wanted = torch.nn.functional.cross_entropy(
        logits_BSV[:, :-1].flatten(0, 1), torch.from_numpy(text.token_BS[:, 1:]).flatten(), reduction="none"
    )
    found_BS = nats(model, text).reshape(text.token_BS.shape)
    np.testing.assert_allclose(found_BS[:, :-1].ravel(), wanted.numpy(), rtol=2e-5, atol=2e-5)
    assert (found_BS[:, -1] == 0).all()
    assert Costs(model, text, 0).nats == pytest.approx(float(wanted.mean()), rel=1e-5)


def test_windows_of_unlike_lengths_are_scored_without_what_is_behind_them(model):
    text = probe()
    short = text._replace(token_BS=text.token_BS.copy())
    inside = (text.row_N != 3) | (text.place_N < 10)
    short.token_BS[3, 10:] = 0
    short = short._replace(row_N=text.row_N[inside], place_N=text.place_N[inside])
    before, after = nats(model, text).reshape(text.token_BS.shape), nats(model, short)
    np.testing.assert_allclose(after[short.row_N == 3][:-1], before[3, :9], rtol=2e-5)
    assert after[short.row_N == 3][-1] == 0


def test_a_models_own_router_costs_exactly_nothing_and_foretells_nothing(model):
    text = probe()
    own = Earlier(24, seen(model, text), distance(model, model))
    rows = Costs(model, text, 0).transplants([own], 24)
    assert [row["layer"] for row in rows] == [0, 1, None] and {tuple(row["nats"]) for row in rows} == {(0.0, 0.0, 0.0)}
    assert all(set(row["foretold"].values()) == {0.0} for row in rows)


def test_another_router_is_put_in_with_its_biases_and_taken_out_to_the_bit(model, other):
    text, before = probe(), state_of(model)
    for layer in model.moe_layers:
        router_of(other, layer).bias.copy_(torch.linspace(-0.1, 0.1, EXPERTS))
    there = seen(other, text)
    with with_routers(model, {layer: one.state for layer, one in zip(model.moe_layers, there)}):
        for layer in model.moe_layers:
            assert same(router_of(model, layer).state_dict(), router_of(other, layer).state_dict())
        assert not same(state_of(model), before)
    assert same(state_of(model), before)
    with pytest.raises(ValueError), with_routers(model, {0: there[0].state}):
        raise ValueError
    assert same(state_of(model), before), "also where something failed meanwhile"


def test_what_is_foretold_of_a_checkpoint_is_what_its_router_would_choose(model, other):
    text = probe()
    now, was = seen(model, text)[1], seen(other, text)[1]
    found = foretold.of_checkpoints(Earlier(8, [], 0.5), was, now, torch.from_numpy(text.token_N), EXPERTS, 16)
    with torch.no_grad():
        there_NK = router_of(other, 1)(now.x_ND, torch.from_numpy(text.token_N)).expert_TK.numpy()
    was_NK, now_NK = was.expert_NC[:, :K].numpy(), now.expert_NC[:, :K].numpy()
    loads = [np.bincount(x.ravel(), minlength=EXPERTS) for x in (was_NK, now_NK)]
    weights = [router_of(each, 1).weight.detach() for each in (other, model)]
    assert found == {
        "sets": pytest.approx(1 - jaccard(was_NK, now_NK).mean()),
        "router": pytest.approx(1 - kept(there_NK, now_NK).mean() / K),
        "inputs": pytest.approx(float((was.x_ND - now.x_ND).norm() / now.x_ND.norm())), "load": jensen_shannon(*loads),
        "evenness": pytest.approx(abs(loads[0].std() - loads[1].std()) / loads[0].mean()),
        "weights": pytest.approx(float((weights[0] - weights[1]).norm() / weights[1].norm())), "model": 0.5, "steps": 16.0,
    }  # fmt: skip
    assert found["router"] > 0.1 and found["sets"] > 0.1


def test_distance_is_of_all_parameters(model, other):
    flat = [torch.cat([p.detach().flatten() for p in each.parameters()]) for each in (other, model)]
    assert distance(other, model) == pytest.approx(float((flat[0] - flat[1]).norm() / flat[1].norm()), rel=1e-5)


def test_removed_experts_are_never_chosen_and_the_next_best_are(model):
    text = probe()
    before, was = state_of(model), chosen(model, text)
    some = {0: [1, 4, 5], 1: [0, 2]}
    with removed(model, some):
        now = chosen(model, text)
        for place, layer in enumerate(model.moe_layers):
            assert not torch.isin(now[place], torch.tensor(some[layer])).any()
        first = seen(model, text)[0]
        score_NE = torch.sigmoid(first.x_ND @ router_of(model, 0).weight.detach()) + router_of(model, 0).bias
        score_NE[:, some[0]] = -math.inf
        assert torch.equal(now[0], score_NE.sort(dim=1, descending=True, stable=True).indices[:, :K])
    assert all(map(torch.equal, chosen(model, text), was)) and same(state_of(model), before)
    assert all("selection" not in vars(router_of(model, layer)) for layer in some)


def test_exchanged_experts_are_as_if_their_weights_were(model):
    text, some = probe(), {0: [0, 3, 6], 1: list(range(EXPERTS))}
    with exchanged(model, some, 7):
        found, order = nats(model, text), [_to(model, layer) for layer in model.moe_layers]
    assert [e for e in range(EXPERTS) if order[0][e] == e] == [1, 2, 4, 5, 7], "none of the cycle stays, and all others do"
    assert sorted(order[1].tolist()) == list(range(EXPERTS)) and (order[1] != torch.arange(EXPERTS)).all()
    copy = saying(planned())
    with torch.no_grad():
        for layer, to_E in zip(model.moe_layers, order):
            for weight in (copy.blocks[layer].feedforward.up, copy.blocks[layer].feedforward.down):
                weight.copy_(weight.clone()[to_E])
    np.testing.assert_allclose(nats(copy, text), found, rtol=1e-5, atol=1e-5)
    assert not np.allclose(nats(model, text), found)


def _to(model, layer):
    """Where each expert's tokens go, asked of the hook that stands on the router."""
    router = router_of(model, layer)
    (hook,) = router._forward_hooks.values()
    said = router.forward(torch.zeros(EXPERTS, 32), torch.zeros(EXPERTS, dtype=torch.int64))
    return hook(router, None, said._replace(expert_TK=torch.arange(EXPERTS)[:, None])).expert_TK[:, 0]


def test_one_expert_alone_has_none_to_be_exchanged_with(model):
    text = probe()
    with exchanged(model, {0: [3]}, 0):
        assert np.array_equal(nats(model, text), nats(model, text))
        found = nats(model, text)
    assert np.array_equal(found, nats(model, text))


def test_every_share_is_interfered_with_in_each_layer_and_in_all(model):
    costs = Costs(model, probe(), 0)
    rows = costs.interferences()
    assert len(rows) == len(SHARES) * len(WHICH) * 2 * 3
    at_once = {(r["share"], r["which"]): r["foretold"] for r in rows if r["layer"] is None and r["what"] == "removed"}
    for share in SHARES:
        loads = [at_once[share, which]["load"] for which in WHICH]
        assert loads[0] <= loads[1] <= loads[2] and loads[0] < loads[2]
        assert at_once[share, "random"]["experts"] == share
    by_layer = [r for r in rows if (r["share"], r["which"], r["what"]) == (0.5, "coldest", "removed")]
    assert by_layer[2]["foretold"]["load"] == pytest.approx(
        (by_layer[0]["foretold"]["load"] + by_layer[1]["foretold"]["load"]) / 2
    )
    assert costs.loads()[0]["chosen"] == np.bincount(chosen(model, probe())[0].flatten(), minlength=EXPERTS).tolist()


def test_shares_of_experts_add_up(model):
    layer, part = seen(model, probe())[0], model.blocks[0].feedforward
    one, rest = (foretold.of_experts(part, layer, some) for some in ([0, 5], [1, 2, 3, 4, 6, 7]))
    assert all(one[name] + rest[name] == pytest.approx(1) for name in one)
    squares = (part.up.detach().square().sum((1, 2)) + part.down.detach().square().sum((1, 2))).double()
    assert one["weights"] == pytest.approx(float(squares[[0, 5]].sum() / squares.sum()), rel=1e-5)


def test_a_hash_router_is_not_transplanted_and_its_experts_are_exchanged_alone():
    fixed = saying(planned("model.router=hash", "balance=none"))
    costs = Costs(fixed, probe(), 0)
    assert {row["what"] for row in costs.interferences()} == {"exchanged"}
    assert costs.transplants([Earlier(0, seen(fixed, probe()), 0.0)], 8) == []


def test_too_many_experts_are_not_removed(model):
    assert can_remove(model, {0: list(range(6))}) and not can_remove(model, {0: list(range(7))})


def test_divergence_is_0_of_proportional_counts_and_ln_2_of_disjoint_ones():
    assert jensen_shannon(np.array([1, 2, 3]), np.array([2, 4, 6])) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(np.array([1, 0]), np.array([0, 5])) == pytest.approx(math.log(2))


def test_quantized_models_are_interfered_with_too():
    model = saying(planned("precision.format=nvfp4"))
    model.quantize(True)
    rows = Costs(model, probe(), 0).interferences()
    assert any(row["nats"][0] != 0 for row in rows)
