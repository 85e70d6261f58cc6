"""The segments of the slot axis, against a loop that builds them row by row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kernels.routing import ROW_MULTIPLE, segments, slot_bound


@st.composite
def routings(draw):
    experts = draw(st.integers(1, 9))
    shape = draw(st.tuples(st.integers(1, 70), st.integers(1, 4)))
    lowest = draw(st.sampled_from([0, -1]))  # -1: a dropped row
    ids = draw(hnp.arrays("int64", shape, elements=st.integers(lowest, experts - 1)))
    return torch.from_numpy(ids), experts


def slow_segments(expert_TK, experts):
    """(token_P, row_P, slot_TK, bounds), each as lists; dropped rows have no slot."""
    top_k, rows = expert_TK.shape[1], expert_TK.numel()
    token_P, row_P, slot_R, bounds = [], [], [None] * rows, []
    for expert in range(experts):
        start = len(row_P)
        for row, chosen in enumerate(expert_TK.flatten().tolist()):
            if chosen == expert:
                slot_R[row] = len(row_P)
                token_P.append(row // top_k)
                row_P.append(row)
        while len(row_P) % ROW_MULTIPLE:
            token_P.append(0)
            row_P.append(rows)
        if len(row_P) > start:
            bounds.append((expert, start, len(row_P)))
    return token_P, row_P, slot_R, bounds


@settings(deadline=None, max_examples=80)
@given(routings())
def test_segments_equal_a_loop_over_rows(case):
    expert_TK, experts = case
    where = segments(expert_TK, experts)
    token_P, row_P, slot_R, bounds = slow_segments(expert_TK, experts)
    assert where.dropped == slot_R.count(None)
    padding = [slot for slot, row in enumerate(where.row_P.tolist()) if row == expert_TK.numel()]
    if where.dropped and len(row_P) == expert_TK.numel() - where.dropped:  # no padding for dropped rows: the last gets some
        expert, start, end = bounds.pop() if bounds else (0, 0, 0)
        bounds.append((expert, start, end + ROW_MULTIPLE))
        token_P, row_P = token_P + [0] * ROW_MULTIPLE, row_P + [expert_TK.numel()] * ROW_MULTIPLE
    assert where.token_P.tolist() == token_P
    assert where.row_P.tolist() == row_P
    assert where.slot_TK.flatten().tolist() == [padding[0] if slot is None else slot for slot in slot_R]
    assert where.bounds == bounds


@settings(deadline=None, max_examples=80)
@given(routings())
def test_slot_bound_is_never_exceeded(case):
    expert_TK, experts = case
    assert segments(expert_TK, experts).token_P.numel() <= slot_bound(expert_TK.numel(), experts)


def test_slot_bound_is_reached_when_every_expert_has_one_row():
    expert_TK = torch.arange(5).view(5, 1)
    assert segments(expert_TK, 5).token_P.numel() == slot_bound(5, 5) == 5 * ROW_MULTIPLE


def test_no_rows_make_no_segments():
    where = segments(torch.empty(0, 2, dtype=torch.int64), 4)
    assert (where.bounds, where.token_P.numel(), tuple(where.slot_TK.shape)) == ([], 0, (0, 2))


@pytest.mark.parametrize("bad", [-2, 4, 2**40])
def test_an_id_outside_the_experts_is_refused_with_its_value(bad):
    with pytest.raises(ValueError, match=rf"\[0, 4\).*{bad}"):
        segments(torch.tensor([[0, 1], [2, bad]]), 4)
