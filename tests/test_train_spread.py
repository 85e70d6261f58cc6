"""Experts spread over ranks (`parallel.ep`): the bits of one process, at a layer and in steps, and what cannot be spread."""

import json
from functools import cache

import micro
import processes
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spread_on_ranks import MORE_CASES, STEP_CASES, layers, traced
from units_on_ranks import UNITS

from harness.errors import UserError
from harness.model.arrangement import outgoing
from harness.plan.check_parallel import check_ranks
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash

PROGRAM = (micro.ROOT / "tests" / "spread_on_ranks.py").read_text()
EP = (*UNITS, "parallel.ep=2")


@cache
def alone(what: str):
    """In this process, as JSON has it."""
    found = layers(micro.ALONE) if what == "layers" else traced(what, micro.ALONE)
    return json.loads(json.dumps(found))


def on_ranks(world, folder, *words):
    done = processes.run_ranks(world, PROGRAM, str(folder), *words, timeout=240)
    assert [rank.returncode for rank in done] == [0] * world, "".join(rank.stderr[-3000:] for rank in done)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


# A layer


@pytest.mark.process
@pytest.mark.parametrize("world", [2, 4])
def test_rows_have_the_bytes_of_one_process_wherever_they_go(world, tmp_path):
    """Outputs, gradients of inputs and routing weights, and of the weights summed over four units; signs of zeros too."""
    for rank in on_ranks(world, tmp_path, "layers"):
        assert rank.keys() == alone("layers").keys()
        for name, found in rank.items():
            assert found == alone("layers")[name], name


@given(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 6).flatmap(lambda e: st.tuples(st.just(e), st.randoms())),
)  # fmt: skip
def test_rows_go_out_by_expert_token_and_slot_and_each_once(tokens, top_k, experts_and_draws):
    experts, draws = experts_and_draws
    expert_TK = torch.tensor([[draws.randrange(-1, experts) for _ in range(top_k)] for _ in range(tokens)])
    found = outgoing(expert_TK, experts)
    kept = [(int(e), row) for row, e in enumerate(expert_TK.flatten()) if e >= 0]
    assert [row for _, row in sorted(kept)] == found.row_R.tolist()
    assert found.count_E.tolist() == [sum(e == expert for e, _ in kept) for expert in range(experts)]
    for row, place in enumerate(found.place_TK.flatten().tolist()):
        dropped = expert_TK.flatten()[row] < 0
        assert place == len(kept) if dropped else found.row_R[place] == row


# Steps


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    "world, cases", [(2, (*STEP_CASES, *MORE_CASES, "fault")), (4, ("bf16, muon, bias", "fp32, balanced"))]
)
def test_spread_experts_leave_the_bits_of_one_process(world, cases, tmp_path):
    """In log, weights and state, of which each rank holds its own. What one finds in another's rows ends the step on all."""
    found = on_ranks(world, tmp_path, "steps", *cases)
    for case in cases:
        for rank in found:
            if case == "fault":
                assert rank[case] == alone(case) and "not finite" in rank[case]
                continue
            assert rank[case]["held"] == [alone(case)["held"][0] // world], case
            for key in ("steps", "groups", "state"):
                assert rank[case][key] == alone(case)[key], (case, key)


# What cannot be spread


@pytest.mark.parametrize(
    "words, says",
    [
        (["parallel.ep=2"], ["parallel.ep=2 with parallel.sums=ranks", "set parallel.sums=units"]),
        ([*UNITS, "parallel.ep=3"], ["8 experts cannot be spread equally over 3 ranks", "set parallel.ep=2"]),
        ([*EP, "parallel.transport=local"], ["transport=local", "leave parallel.transport"]),
        ([*UNITS, "parallel.transport=all_to_all"], ["parallel.ep=1, where every rank has all experts"]),
        ([*EP, "kernels.backend=reference"], ["kernels.backend=reference", "kernels.backend=auto"]),
        ([*EP, "parallel.tp=2"], ["no tensor parallelism here", "parallel.ep"]),
        ([*EP, "parallel.pp=2"], ["no pipeline parallelism here"]),
    ],
)
def test_what_cannot_be_spread_is_refused_with_what_to_type(words, says):
    with pytest.raises(UserError) as caught:
        compose([*micro.MOE, *words])
    for part in says:
        assert part in f"{caught.value.problem} {caught.value.remedy}", caught.value


def test_a_dense_model_has_nothing_to_spread():
    with pytest.raises(UserError, match="a model without experts"):
        compose([*micro.DENSE, *EP])


@pytest.mark.parametrize("ranks", [1, 4])
def test_experts_are_spread_over_all_ranks_or_none(ranks):
    with pytest.raises(UserError, match="parallel.ep=2 with") as caught:
        check_ranks(compose([*micro.MOE, *EP]).plan, ranks)
    assert "torchrun --nproc-per-node 2" in caught.value.remedy


def test_where_experts_are_is_no_part_of_a_plans_hash():
    assert plan_hash(compose([*micro.MOE, *EP]).plan) == plan_hash(compose([*micro.MOE, *UNITS]).plan)
