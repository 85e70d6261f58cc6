"""The steps of a budget, constant or in stages, against counting them one by one."""

from fractions import Fraction

import micro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash, to_yaml
from harness.plan.schema import Batch
from harness.plan.steps import Stage, Steps, batch_scale, budget_of_about, of_first_stage, steps_of
from harness.plan.stored import read_plan, read_stored_plan, stored_steps, words_of

batches = st.one_of(
    st.builds(Batch, st.integers(1, 50)),
    st.builds(Batch, st.just(7), st.lists(st.integers(1, 50), min_size=1, max_size=5)),
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 24)), min_size=1, max_size=4).map(
        lambda pairs: Batch(
            7, [*(tokens for tokens, _ in pairs), 3], [*(w / 100 for _, w in pairs), (100 - sum(w for _, w in pairs)) / 100]
        )
    ),
)


def counted(batch, budget):
    """The tokens of each step, one after the other."""
    found, percents = [], [round(100 * share) for share in batch.stage_shares]
    for number, size in enumerate(batch.sizes, start=1):
        part = Fraction(sum(percents[:number]), 100) if percents else Fraction(number, len(batch.sizes))
        end = int(part * budget + Fraction(1, 2))
        while sum(found) + size <= end:
            found.append(size)
    return found


@given(batch=batches, budget=st.integers(0, 2000))
def test_a_stage_takes_the_steps_that_end_within_its_part_and_leaves_the_rest_to_the_next(batch, budget):
    steps, expected = steps_of(batch, budget), counted(batch, budget)
    assert [steps.tokens(step) for step in range(steps.count)] == expected
    assert [steps.before(step) for step in range(steps.count + 1)] == [sum(expected[:n]) for n in range(len(expected) + 1)]
    assert steps.total == sum(expected) and budget - batch.sizes[-1] < steps.total <= budget


@given(size=st.integers(1, 50), budget=st.integers(1, 2000), step=st.integers(0, 100))
def test_a_constant_batch_has_the_steps_it_always_had_however_it_is_written(size, budget, step):
    for batch in (Batch(size), Batch(7, [size]), Batch(7, [size] * 3), Batch(7, [size, size], [0.3, 0.7])):
        steps = steps_of(batch, budget)
        assert (steps.count, steps.before(step), steps.tokens(step)) == (budget // size, step * size, size)


def test_progress_is_at_the_middle_of_the_tokens_of_a_step():
    steps = Steps((Stage(10, 3), Stage(30, 2)))  # 90 tokens
    assert [steps.progress(step) for step in range(5)] == [5 / 90, 15 / 90, 25 / 90, 45 / 90, 75 / 90]
    with pytest.raises(AssertionError, match="step 5 of 5"):
        steps.progress(5)


@given(tokens=st.integers(1, 2**30), count=st.integers(1, 2**20), data=st.data())
def test_progress_of_a_constant_batch_is_that_of_its_steps_to_the_last_bit(tokens, count, data):
    step = data.draw(st.integers(0, count - 1))
    assert Steps.even(tokens, count).progress(step) == (step + 0.5) / count


@given(batch=batches, budget=st.integers(1, 5000), count=st.integers(1, 40))
def test_a_shorter_budget_keeps_every_stage(batch, budget, count):
    whole = steps_of(batch, budget)
    if all(stage.count for stage in whole.stages):
        tokens = budget_of_about(batch, budget, count)
        assert tokens <= budget and all(stage.count for stage in steps_of(batch, tokens).stages)


def test_a_shorter_budget_has_about_the_steps_that_were_asked_for():
    assert budget_of_about(Batch(4096), 1572864, 48) == 48 * 4096
    staged = Batch(4096, [2048, 4096, 8192])
    assert steps_of(staged, 1572864).stages == (Stage(2048, 256), Stage(4096, 128), Stage(8192, 64))
    assert steps_of(staged, budget_of_about(staged, 1572864, 48)).count in (47, 48)


@pytest.mark.parametrize("rule, scales", [("linear", [0.5, 1, 2]), ("sqrt", [0.5**0.5, 1, 2**0.5]), ("none", [1, 1, 1])])
def test_a_rate_follows_the_batch_relative_to_tokens_per_step(rule, scales):
    plan = compose(
        [*micro.MOE, "batch.stages=[128,256,512]", *([f"schedule.batch_lr={rule}"] if rule != "linear" else [])]
    ).plan
    assert [batch_scale(plan, tokens) for tokens in plan.batch.stages] == scales


def test_shares_may_be_written_as_rounded_decimals():
    equal, rounded = Batch(4096, [2048, 4096, 8192]), Batch(4096, [2048, 4096, 8192], [0.333333333, 0.333333333, 0.333333334])
    assert steps_of(rounded, 1572864) == steps_of(equal, 1572864)


def test_a_step_is_timed_at_the_size_of_the_first_stage():
    staged = compose([*micro.MOE, "batch.stages=[128,512]"]).plan
    assert of_first_stage(staged).by_step == Steps.even(128, 64) and staged.batch.stages == [128, 512]
    constant = compose(micro.MOE).plan
    assert of_first_stage(constant) == constant


STAGED = [*micro.MOE, "batch.stages=[128,256,512]", "batch.stage_shares=[0.2,0.3,0.5]", "schedule.batch_lr=sqrt"]


def test_a_staged_plan_comes_back_from_its_file_with_the_steps_the_hash_and_the_words_that_it_had(tmp_path):
    plan = compose(STAGED).plan
    path = tmp_path / "plan.yaml"
    path.write_text(to_yaml(plan))
    stored = read_stored_plan(path)
    assert read_plan(path) == plan and stored_steps(stored) == plan.by_step
    assert plan_hash(compose(words_of(stored, str(path))).plan) == plan_hash(plan)


def test_stages_shares_and_the_rule_of_the_rate_move_the_hash_and_their_defaults_do_not():
    words = [[], STAGED[-3:-2], STAGED[-3:-1], STAGED[-3:]]
    hashes = [plan_hash(compose([*micro.MOE, *more]).plan) for more in words]
    defaults = ["batch.stages=[]", "batch.stage_shares=[]", "schedule.batch_lr=linear"]
    assert len(set(hashes)) == 4 and plan_hash(compose([*micro.MOE, *defaults]).plan) == hashes[0]


def test_a_lane_freezes_its_stages():
    composed = compose(STAGED)
    assert composed.broken["batch.stages"] == ([], [128, 256, 512])


def test_a_shorter_budget_leaves_stages_and_what_their_rates_are_relative_to_as_they_are():
    plan = compose(["lane=tiny-moe-16e", "unranked=true", "budget.tokens=3072", "batch.stages=[256,512]"]).plan
    assert plan.batch.tokens_per_step == 4096 and plan.by_step.stages == (Stage(256, 6), Stage(512, 3))
