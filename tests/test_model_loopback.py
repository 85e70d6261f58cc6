"""Experts spread over ranks that one process plays (`parallel.transport=loopback`): the bits of one process without ranks."""

from types import SimpleNamespace

import micro
import pytest
import torch
from expert_inputs import BF16
from hypothesis import given
from hypothesis import strategies as st
from micro import finished_fixture, no_figures_fixture  # noqa: F401
from spread_on_ranks import ALL_CASES, ROUTINGS
from test_train_precision import NVFP4
from units_on_ranks import UNITS, fault_in, lively, steps

from harness.errors import UserError
from harness.model.transport.loopback import Loopback
from harness.plan.check_parallel import check_ranks
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.ranks import Ranks
from harness.train.determinism import set_torch
from kernels import Precision, moe_mlp

WIDTH = EXPERT_WIDTH = 32
PLAYED = ("parallel.transport=loopback", "parallel.ep=4")
BACKENDS = [(name, precision) for name in ("torch", "brgemm") for precision in ("full", "emulated", *(["native"] * BF16))]


@pytest.fixture(autouse=True)
def deterministic():
    set_torch()


def played(ranks: int, experts: int) -> Loopback:
    return Loopback(SimpleNamespace(num_experts=experts), None, Ranks(0, ranks))


def bits(call, tensors, dy_TD, **how) -> list[bytes]:
    """Of y and the gradients of x, both weights and routing weights."""
    x_TD, up_EDG, down_EFD, expert_TK, weight_TK = tensors
    leaves = [t.detach().requires_grad_() for t in (x_TD, up_EDG, down_EFD, weight_TK)]
    y_TD = call(*leaves[:3], expert_TK, leaves[3], **how)
    found = (y_TD, *torch.autograd.grad(y_TD, leaves, dy_TD))
    return [t.detach().contiguous().view(torch.uint8).numpy().tobytes() for t in found]


def drawn(expert_TK, experts, activation, arithmetic="full", width=WIDTH):
    """Tensors of a layer that routes so, and the gradient that comes in. One expert's outputs are zeros, with signs."""
    g = torch.Generator().manual_seed(experts)
    tokens, outer = len(expert_TK), width * (2 if activation == "swiglu" else 1)
    x_TD, dy_TD = (torch.randn(tokens, width, generator=g) for _ in range(2))
    up, down = (torch.randn(experts, *shape, generator=g) / 8 for shape in ((width, outer), (width, width)))
    down[experts // 2] = 0
    x_TD = Precision.of(arithmetic).arithmetic.operand(x_TD)
    return (x_TD, up, down, expert_TK, torch.rand(expert_TK.shape, generator=g)), dy_TD


def same_bits(name: str, backend: str, precision: str, activation: str) -> None:
    routing, tokens, experts, top_k = ROUTINGS[name]
    for seed in range(4 if name == "mixed" else 1):
        expert_TK = routing(torch.Generator().manual_seed(seed), tokens, experts, top_k)
        tensors, dy_TD = drawn(expert_TK, experts, activation, precision)
        how = {"activation": activation, "backend": backend, "precision": Precision.of(precision), "key_4": None}
        expected = bits(moe_mlp, tensors, dy_TD, **how)
        for ranks in (number for number in (2, 3, 4, 8) if experts % number == 0):
            assert bits(played(ranks, experts).experts, tensors, dy_TD, **how) == expected, ranks


@pytest.mark.parametrize("activation", ["relu2", "swiglu"])
@pytest.mark.parametrize("backend, precision", BACKENDS)
@pytest.mark.parametrize("name", ROUTINGS)
def test_outputs_and_all_gradients_have_the_bytes_of_a_process_without_ranks(name, backend, precision, activation):
    """However many ranks, with stretches of no token, owners without a row, dropped rows, and signs of zeros."""
    same_bits(name, backend, precision, activation)


@pytest.mark.parametrize("activation", ["relu2", "swiglu"])
@pytest.mark.parametrize("precision", ["full", *(["native"] * BF16)])
@pytest.mark.parametrize("name", ["anywhere", "some dropped"])
def test_so_they_have_where_what_lies_between_products_is_compiled(name, precision, activation):
    same_bits(name, "inductor", precision, activation)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 9), st.integers(1, 3), st.randoms())
def test_any_routing_has_the_bytes_of_a_process_without_ranks(ranks, held, tokens, top_k, draws):
    experts = ranks * held
    expert_TK = torch.tensor([[draws.randrange(-1, experts) for _ in range(top_k)] for _ in range(tokens)])
    tensors, dy_TD = drawn(expert_TK, experts, "relu2", width=16)
    how = {"activation": "relu2", "backend": "torch", "precision": Precision.of("full"), "key_4": None}
    assert bits(played(ranks, experts).experts, tensors, dy_TD, **how) == bits(moe_mlp, tensors, dy_TD, **how)


def test_a_routing_weight_that_is_no_number_is_named_where_launches_are_looked_at():
    tensors, _ = drawn(torch.zeros(3, 1, dtype=torch.int64), 2, "relu2")
    how = {"activation": "relu2", "backend": "torch", "precision": Precision.of("full"), "key_4": None, "debug": True}
    tensors[4][1, 0] = torch.nan
    with pytest.raises(ValueError, match=r"weight\[1, 0\] is nan"):
        played(2, 2).experts(*tensors, **how)


# Steps

BY_RANKS = ("parallel.sums=ranks", "parallel.micro_batch_tokens=128")
CASES = [
    ("bf16, muon, bias", UNITS), ("fp32, balanced", UNITS), ("fp32, balanced", BY_RANKS), ("tasks, masked", UNITS),
    ("softmax, swiglu, checkpointing", UNITS), ("soap, many dropped", UNITS), ("fp8, factors drawn", UNITS),
    ("nvfp4 of experts", UNITS), ("mxfp4", UNITS),
]  # fmt: skip


@pytest.mark.parametrize("case, words", CASES, ids=lambda value: value if isinstance(value, str) else value[0])
def test_steps_leave_the_bits_of_a_process_without_ranks(case, words):
    """In loss, norms, weights and state, and in what the log says of groups. What it says of a format's errors is of what a
    call quantizes: tokens, or the rows that owners have."""
    alone, spread = (steps(lively(*ALL_CASES[case], micro.ALONE, *words, *more)) for more in ((), PLAYED))
    for key in ("steps", "groups", "state"):
        assert spread[key] == alone[key], key


@pytest.mark.slow
def test_compiled_steps_leave_the_bits_of_a_process_without_ranks():
    """Four units of a step, whose blocks are those that test_train_stages.py compiles."""
    units = ("parallel.sums=units", "batch.tokens_per_step=512", "parallel.micro_batch_tokens=128")
    words = ("kernels.compile=on", "model.expert_width=32", *units)
    alone, spread = (steps(lively(micro.MOE, (), micro.ALONE, *words, *more)) for more in ((), PLAYED))
    assert spread == alone


def test_what_a_format_cannot_hold_ends_the_step():
    own = ("precision.tensor_scale=expert",)
    alone, spread = (fault_in(lively(NVFP4, own, micro.ALONE, *UNITS, *more)) for more in ((), PLAYED))
    assert spread == alone != "no fault"


def test_a_run_whose_ranks_are_played_has_chain_and_weights_of_any_other(finished, tmp_path, no_figures):
    assert micro.bits(micro.run(tmp_path, *PLAYED)) == micro.bits(finished("moe"))


# What is refused


@pytest.mark.parametrize(
    "words, says",
    [
        (["parallel.transport=loopback"], ["parallel.transport=loopback with parallel.ep=1", "set parallel.ep"]),
        ([*PLAYED, "parallel.ep=3"], ["8 experts cannot be spread equally over 3 ranks", "set parallel.ep=2"]),
        ([*PLAYED, "kernels.backend=reference"], ["kernels.backend=reference", "kernels.backend=auto"]),
        ([*PLAYED, "precision.format=nvfp4"], ["precision.tensor_scale=auto, a scale of all", "tensor_scale=expert"]),
    ],
)  # fmt: skip
def test_what_cannot_be_played_is_refused_with_what_to_type(words, says):
    with pytest.raises(UserError) as caught:
        compose([*micro.MOE, *words])
    for part in says:
        assert part in f"{caught.value.problem} {caught.value.remedy}", caught.value
    assert "start as many" not in caught.value.remedy


def test_ranks_are_played_in_one_process():
    plan = compose([*micro.MOE, *PLAYED]).plan
    check_ranks(plan, 1)
    with pytest.raises(UserError, match="parallel.transport=loopback with 2 ranks: it plays the 4 of parallel.ep") as caught:
        check_ranks(plan, 2)
    assert caught.value.remedy == "start one, without torchrun, or set parallel.transport=auto and parallel.ep=2"


def test_who_plays_ranks_is_no_part_of_a_plans_hash():
    assert plan_hash(compose([*micro.MOE, *PLAYED]).plan) == plan_hash(compose(micro.MOE).plan)
