"""Rows, bytes and seconds of a plan on several ranks, against counts that are made in another way."""

from itertools import combinations, product
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_words import with_words

from harness.model.build import count_plan
from harness.model.counts import Counts
from harness.plan.compose import compose
from harness.train import wire
from harness.train.estimate import expected, expert_weights, step_parts
from harness.train.memory import memory
from harness.train.named_gpus import GPUS, NODE

UNITS = ["parallel.sums=units"]
H100 = GPUS["h100-80"]
# Of layers, experts, width, expert width and three matrices; attention, router, shared expert, norms; embedding, head and norm.
BY_HAND = {
    "moe-256e": (12 * 256 * 768 * 384 * 3, 12 * (4 * 768**2 + 768 * 256 + 3 * 768 * 384 + 2 * 768) + 2 * 50304 * 768 + 768),
    "moe-4096e": (12 * 4096 * 768 * 384 * 3, 12 * (4 * 768**2 + 768 * 4096 + 3 * 768 * 384 + 2 * 768) + 2 * 50304 * 768 + 768),
}


@pytest.fixture(scope="module")
def of():
    """of(lane, *words): the plan, unchecked words set."""
    plans = {lane: compose([f"lane={lane}"]).plan for lane in ("moe-256e", "moe-4096e", "moe-64e")}
    return lambda lane, *words: with_words(plans[lane], words)


@pytest.mark.parametrize("lane", BY_HAND)
def test_parameters_are_those_that_are_counted_by_hand(lane, of):
    experts, rest = BY_HAND[lane]
    plan = of(lane)
    assert expert_weights(plan) == experts and count_plan(plan).params_total == experts + rest


@pytest.mark.parametrize("ranks", [1, 8, 16])
@pytest.mark.parametrize("lane", BY_HAND)
def test_a_rank_holds_its_share_of_the_experts_and_all_of_the_rest(lane, ranks, of):
    """fp32 weights, gradients and momenta, and bf16 copies of experts; AdamW's two of what is no matrix."""
    experts, rest = BY_HAND[lane]
    plan = of(lane, *UNITS, f"parallel.ep={ranks}")
    found = memory(plan, expected(H100, ranks))
    assert found.experts == 4 * experts // ranks and found.copies == 2 * experts // ranks
    assert found.weights == found.gradients == 4 * (experts // ranks + rest)
    matrices = experts // ranks + 12 * (4 * 768**2 + 3 * 768 * 384)
    assert found.moments == 4 * (2 * (experts // ranks + rest) - matrices)
    assert found.sums == (4 * rest // ranks if ranks > 1 else 0)
    assert found.total < memory(of(lane, *UNITS), expected(H100, 1)).total or ranks == 1


# Rows


def routings(tokens, experts, top_k):
    return product(combinations(range(experts), top_k), repeat=tokens)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("ranks, experts, top_k", [(2, 4, 1), (2, 4, 2), (2, 4, 3), (3, 3, 2), (3, 3, 1), (2, 6, 2)])
def test_rows_received_are_the_most_and_the_mean_of_every_routing(ranks, experts, top_k, factor, of):
    """Of two tokens a rank; a capacity lets an expert take so many of each rank's."""
    plan = of(
        "moe-64e", *UNITS, f"parallel.ep={ranks}", f"model.num_experts={experts}", f"model.top_k={top_k}",
        "parallel.micro_batch_tokens=2", f"balance.capacity_factor={factor}",
    )  # fmt: skip
    cap = ceil(factor * 2 * top_k / experts) if factor else 2
    held = range(experts // ranks)  # of the first rank
    of_a_unit = [
        sum(min(cap, sum(expert in token for token in routing)) for expert in held) for routing in routings(2, experts, top_k)
    ]
    found = wire.received(plan)
    assert found.worst == ranks * max(of_a_unit)
    if not factor:
        assert found.average == pytest.approx(ranks * sum(of_a_unit) / len(of_a_unit))


@given(st.sampled_from([(2, 8), (4, 8), (8, 16), (16, 64)]), st.integers(1, 6), st.integers(1, 4), st.booleans(), st.booleans())
def test_bytes_sent_are_those_of_every_row_that_has_its_expert_elsewhere(shape, top_k, rounds, again, loads):
    ranks, experts = shape
    plan = compose(["lane=moe-64e"]).plan
    unit = experts  # tokens, of which each expert gets as many rows
    plan = with_words(
        plan,
        [*UNITS, f"parallel.ep={ranks}", f"model.num_experts={experts}", f"model.top_k={top_k}", "model.width=12",
         f"parallel.micro_batch_tokens={unit}", f"batch.tokens_per_step={unit * ranks * rounds}",
         f"parallel.activation_checkpointing={str(again).lower()}", f"balance.aux_loss_coef={0.1 if loads else 0.0}"],
    )  # fmt: skip
    chosen = [(token + k) % experts for token in range(unit) for k in range(top_k)]
    away = sum(expert // (experts // ranks) != 0 for expert in chosen)  # of the first rank's
    layers, passes = 11, 1 + again + loads
    rows = {name: it.size for name, it in wire.sent(plan, Counts(10**9, 1, 1), ranks).items() if name.startswith("rows")}
    out, home = 2 * 12 + 4, 2 * 12  # bytes of a row with its routing weight, and of one without
    expected_sizes = [passes * out, passes * home, home, out]
    assert [*rows.values()] == pytest.approx([size * away * rounds * layers for size in expected_sizes])


def test_gradients_travel_each_round_where_units_are_folded_and_twice_where_ranks_are_summed(of):
    """Four rounds of eight ranks."""
    experts, rest = BY_HAND["moe-256e"]
    plain, units, spread = (of("moe-256e", *words) for words in ([], UNITS, [*UNITS, "parallel.ep=8"]))
    counts = count_plan(plain)
    part = 4 * rest // 8  # of each rank
    found = {name: it.size for name, it in wire.sent(spread, counts, 8).items() if name.startswith("gradients")}
    assert [*found.values()] == [4 * 7 * part, 7 * part]
    assert [it.size for it in wire.sent(units, counts, 8).values()] == [
        4 * 7 * (experts + rest) // 2,
        7 * (experts + rest) // 2,
    ]
    assert [it.size for it in wire.sent(plain, counts, 8).values()] == [2 * 7 * (experts + rest) // 2]


# Seconds


def test_what_leaves_the_node_goes_over_the_network():
    within, direct = wire.Sent(NODE * 1e9), wire.Sent(15e9)
    assert within.seconds(H100, NODE) == pytest.approx(NODE * 1e9 / H100.link / wire.MESSAGES)
    assert direct.seconds(H100, 16) == pytest.approx(8e9 / H100.network / wire.MESSAGES)  # to 8 of 15
    ring = wire.Sent(16e9, direct=False)  # one of the node's eight
    assert ring.seconds(H100, 16) == pytest.approx(2e9 / H100.network / wire.MESSAGES)
    assert direct.seconds(H100, 1) == 0


def test_spread_experts_are_updated_by_their_ranks_and_their_rows_are_taken_together(of):
    alone, spread = of("moe-4096e"), of("moe-4096e", *UNITS, "parallel.ep=16")
    counts = count_plan(alone)
    a, b = (wire.seconds(plan, counts, H100, 16) for plan in (alone, spread))
    assert a["products"] == b["products"] and a["attention"] == b["attention"] and a["experts"] > b["experts"]
    assert a["optimizer"] > 14 * b["optimizer"]
    assert "rows on the wire" not in a and a["gradients on the wire"] > b["gradients on the wire"]


def test_weights_are_read_and_gradients_added_as_often_as_the_kernels_are_called(of):
    """Those of moe-4096e on eight ranks, as kernels/triton/NOTES.md derives them."""
    weights = BY_HAND["moe-4096e"][0] // 8
    for unit, by_unit, together, read in ((16384, 2761e9, 152e9, 87e9), (65536, 674e9, 22e9, 22e9)):
        plan = of("moe-4096e", *UNITS, "parallel.ep=8", f"parallel.micro_batch_tokens={unit}")
        assert wire.Calls.of(plan, 8) == wire.Calls(524288 // unit // 8, 8)
        assert wire.Calls(524288 // unit, 1).bytes_added(weights) == pytest.approx(by_unit, rel=0.01)
        assert wire.Calls.of(plan, 8).bytes_added(weights) == pytest.approx(together, rel=0.02)
        assert wire.Calls.of(plan, 8).bytes_read(weights) == pytest.approx(read, rel=0.02)


def test_calls_are_one_a_unit_where_a_format_looks_at_a_units_rows_and_where_all_experts_are_here(of):
    words = [*UNITS, "parallel.ep=8"]
    assert wire.Calls.of(of("moe-256e", *words), 8) == wire.Calls(4, 8)
    assert wire.Calls.of(of("moe-256e"), 8) == wire.Calls(4, 1)
    assert wire.Calls.of(of("moe-256e", *words, "precision.format=nvfp4"), 8) == wire.Calls(32, 1)


def test_experts_rows_fill_no_whole_tiles(of):
    """28 rows of each unit in tiles of 128, their weights' gradients in 64; 448 of sixteen."""
    big = of("moe-4096e")
    assert wire.Calls(2, 1).padded(big) == pytest.approx((2 * 128 / 28 + 64 / 28) / 3)
    assert wire.Calls(2, 16).padded(big) == pytest.approx((2 * 512 / 448 + 64 / 28) / 3)


def test_a_dense_model_has_no_parts_of_experts():
    plan = compose(["lane=dense"]).plan
    found = wire.seconds(plan, count_plan(plan), H100, 8)
    parts = step_parts(plan, count_plan(plan), expected(H100, 8), plan.by_step.largest)
    assert "expert gradients" not in found and found["products"] == parts["products"]
