"""Warmup-stable-decay at points computed by hand."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.optim.schedule import lr_scale, step_scale
from harness.plan.schema import Batch, Budget, Plan, Schedule
from harness.plan.steps import Steps

# 100 steps of 10 tokens: warmup until 200, decay from 600; a step is taken in its middle
WSD, STEPS = Schedule(warmup_share=0.2, decay_share=0.4, final_fraction=0.1), Steps.even(10, 100)


@pytest.mark.parametrize(
    "step, expected",
    [
        (0, 5 / 200),
        (9, 95 / 200),
        (19, 195 / 200),
        (20, 1.0),
        (59, 1.0),
        (60, 0.1 + 0.9 * 395 / 400),
        (80, 0.1 + 0.9 * 195 / 400),
        (99, 0.1 + 0.9 * 5 / 400),
    ],
)
def test_warmup_plateau_and_decay_have_their_hand_computed_values(step, expected):
    assert lr_scale(WSD, STEPS.progress(step)) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(100, 1000), min_size=1, max_size=4), warmup=st.floats(0.3, 0.4), decay=st.floats(0.3, 0.4))
def test_linear_rates_sum_up_to_those_of_a_constant_batch_whatever_the_stages(sizes, warmup, decay):
    """Up to the step that a corner of the schedule lies within: elsewhere its middle is its mean."""
    plan = Plan(batch=Batch(40, sizes), budget=Budget(100_000), schedule=Schedule(warmup, decay, 0.1))
    steps = plan.by_step
    total = sum(step_scale(plan, steps, step) for step in range(steps.count)) * 40 / steps.total
    exact = 1 - warmup / 2 - decay * 0.9 / 2
    assert total == pytest.approx(exact, abs=3e-4)


def test_without_warmup_and_decay_the_scale_is_one():
    assert {lr_scale(Schedule(0.0, 0.0, 0.0), STEPS.progress(step)) for step in range(100)} == {1.0}


def test_a_warmup_over_the_whole_budget_never_reaches_one():
    assert lr_scale(Schedule(1.0, 0.0, 0.0), STEPS.progress(99)) == pytest.approx(0.995)


def test_a_step_beyond_the_budget_is_an_error():
    with pytest.raises(AssertionError, match="step 100 of 100"):
        STEPS.progress(100)


@given(
    warmup=st.floats(0, 1), decay=st.floats(0, 1), final=st.floats(0, 1), per_step=st.integers(1, 10**6),
    steps=st.integers(1, 10**5), data=st.data(),
)  # fmt: skip
def test_every_step_of_a_budget_has_a_scale_above_zero_and_at_most_one(warmup, decay, final, per_step, steps, data):
    assume(warmup + decay <= 1)
    step = data.draw(st.integers(0, steps - 1) | st.just(steps - 1))
    assert 0 < lr_scale(Schedule(warmup, decay, final), Steps.even(per_step, steps).progress(step)) <= 1
