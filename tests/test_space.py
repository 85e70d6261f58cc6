"""Spaces: what a file may say, where families start, and that what cannot be searched is named before anything runs."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from search_factory import FILE, MOE, START, space

import harness.plan.space
from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.space import SAMPLERS, read_space, space_names
from harness.plan.space_check import LEAST_STEPS, drawn, starts_of


def read(tmp_path, monkeypatch, **changes):
    """The space of a file with these changes."""
    monkeypatch.setattr(harness.plan.space, "SPACES", tmp_path)
    (tmp_path / "example.yaml").write_text(yaml.safe_dump(FILE | changes))
    return read_space("example")


def dials(**changes):
    return {"dials": FILE["dials"] | changes}


@pytest.mark.parametrize("name", space_names())
def test_every_space_of_the_repository_starts_within_its_dials(name):
    found = read_space(name)
    assert starts_of(found).keys() == found.families.keys()
    assert {sampler for _, sampler in found.arms} == set(SAMPLERS)


@pytest.mark.parametrize(
    "changes, said",
    [
        (dials(**{"track.target": {"choices": ["ngram7", "xz_alone"]}}), "dial track.target turns track.target, which an open"),
        (dials(**{"optim.muon.rl": {"low": 0.1, "high": 0.2}}), "optim.muon.rl is no key of a plan: did you mean optim.muon"),
        (dials(seed={"choices": [1, 2]}), "dial seed turns seed, which is a trial's own"),
        (dials(**{"optim.muon.lr": {"low": 0.2, "high": 0.1}}), "low 0.2 is not below high 0.1"),
        (dials(**{"optim.muon.lr": {"low": 0.0, "high": 0.1, "log": True}}), "log is of a range that begins above 0"),
        (dials(**{"optim.muon.lr": {"low": 0.1}}), "it has low and high, or choices"),
        (dials(**{"optim.muon.lr": {"choices": [0.1]}}), "choices are two or more values"),
        (dials(**{"optim.muon.lr": {"choices": [0.1, 0.1]}}), "two choices are the same"),
        (dials(**{"optim.muon.lr": {"choices": [0.1, [1]]}}), "is no choice"),
        (dials(**{"optim.muon.lr": {"lo": 0.1, "high": 1.0}}), "unknown field 'lo': did you mean low?"),
        (dials(**{"model.layers": {"low": 1.5, "high": 4}}), "dial model.layers is a whole number, found 1.5 to 4"),
        (dials(**{"model.attention": {"low": 1, "high": 4}}), "dial model.attention has low and high, and is no number"),
        (dials(**{"model.layers": {"low": 1, "high": 4, "step_of": "batch"}}), "has step_of, which is of budget.tokens"),
        (dials(wide={"choices": {"a": "", "b": "optim.muon.lr=0.1"}}), "dials optim.muon.lr and wide of family dense both"),
        ({"rungs": [0.5, 0.25, 1]}, "rungs 0.5, 0.25, 1, which rise from above 0 to 1"),
        ({"rungs": [0.25, 0.5]}, "rungs 0.25, 0.5, which rise"),
        ({"reduction": 1}, "reduction 1, at which all trials go on"),
        ({"common": "seed=2"}, "seed=2 in common, which is a trial's own"),
        ({"common": "optim.muon.lr=0.1"}, "optim.muon.lr=0.1 in common, which is set elsewhere"),
        ({"families": {"a": {"dials": {"optim.muon.lr": {"low": 1, "high": 2}}}}}, "of family a, which all families have"),
        ({"seed": 2000}, "confirm.fresh_from 1001, which seed 2000 of the trials is not below"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_space_is_refused_by_what_is_wrong(tmp_path, monkeypatch, changes, said):
    with pytest.raises(UserError) as caught:
        read(tmp_path, monkeypatch, **changes)
    assert said in caught.value.problem


@pytest.mark.parametrize(
    "changes, said",
    [
        (dials(**{"schedule.decay_share": {"low": 0.3, "high": 1.5}}), "has dial schedule.decay_share at 1.5: "),
        (dials(**{"model.heads": {"choices": [4, 3]}}), "has dial model.heads at 3: "),
        (dials(shape={"choices": {"plain": "", "odd": "model.widht=64"}}), "has dial shape at odd: unknown key 'model.widht'"),
        (dials(**{"optim.muon.lr": {"low": 0.05, "high": 0.2}}), "starts with dial optim.muon.lr at 0.02, which is not among"),
        (dials(**{"batch.tokens_per_step": {"choices": [1024, 2048]}}), "starts with dial batch.tokens_per_step at 4096"),
        (dials(shape={"choices": {"a": "model.layers=2", "b": "model.layers=3"}}), "starts with dial shape at none of its"),
        ({"families": {"dense": {"words": "model.heads=3"}}}, "family dense does not start: model.heads=3 does not divide"),
        ({"families": {"dense": {"words": "optim=moun"}}}, "family dense does not start: unknown optim 'moun'"),
        ({"lane": "tiny-opne"}, "unknown lane 'tiny-opne'"),
        ({"common": "track.target=xz_alone"}, "family dense could not be confirmed: "),
        ({"scored": 1062581}, "a search leaves the rest to confirmations"),
        ({"scored": 1000}, "whose slice has 262,144"),
    ],
)  # fmt: skip
def test_what_does_not_compose_is_named_with_its_family_and_dial(changes, said):
    with pytest.raises(UserError) as caught:
        starts_of(space(**changes))
    assert said in caught.value.problem and "studies/spaces/example.yaml" in caught.value.remedy


def test_a_start_is_a_value_of_every_dial_and_of_named_choices_the_one_that_changes_nothing():
    shape = {"choices": {"small": "model.width=128", "whole": "model.layers=4", "flat": "model.layers=1"}}
    found = starts_of(space(**dials(shape=shape)))["dense"]
    assert found == {"optim.muon.lr": 0.02, "batch.tokens_per_step": 4096, "budget.tokens": START, "shape": "whole"}
    example = space(**dials(shape=shape))
    start, same = drawn(example, "dense").rungs[-1].plan, drawn(example, "dense", found).rungs[-1].plan
    assert plan_hash(start) == plan_hash(same)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 10**7), st.sampled_from([1024, 2048, 4096]), st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3))
def test_rungs_rise_in_whole_steps_of_the_trials_own_batch(tokens, batch, shares):
    example = space(rungs=[*sorted(set(shares)), 1.0])
    draw = drawn(example, "dense", {"budget.tokens": tokens + LEAST_STEPS * 4096, "batch.tokens_per_step": batch})
    found = [rung.plan.budget.tokens for rung in draw.rungs]
    assert found == sorted(found) and all(some % batch == 0 and some >= LEAST_STEPS * batch for some in found)
    assert tokens + LEAST_STEPS * 4096 - batch < found[-1] <= tokens + LEAST_STEPS * 4096
    for share, some in zip(example.rungs, found):
        assert abs(some - share * found[-1]) <= batch / 2 or some == LEAST_STEPS * batch
    assert draw.words[-1] == f"budget.tokens={found[-1]}"


def test_a_trials_words_compose_to_its_plan_and_each_key_stands_once():
    example = space(families={"moe": MOE})
    draw = drawn(example, "moe", {"optim.muon.lr": 0.0123456, "budget.tokens": 500001, "batch.tokens_per_step": 1024})
    assert [word for word in draw.words if word.startswith(("optim", "budget", "batch"))] == [
        "optim.muon.lr=0.01235", "batch.tokens_per_step=1024", "budget.tokens=499712",
    ]  # fmt: skip
    typed = compose(["lane=tiny-open", *example.shared, *draw.words]).plan
    assert plan_hash(typed) == plan_hash(draw.rungs[-1].plan)
    assert typed.validation.tokens == 262144 and typed.validation.steps == [] and typed.unranked


def test_trials_and_titles_may_change_between_calls_and_dials_may_not():
    one = space()
    assert one.with_trials(9).sha256 == space(title="another").sha256 == space(confirm={"pairs": 5}).sha256 == one.sha256
    assert len({one.sha256, space(reduction=4).sha256, space(seed=2).sha256, space(rungs=[0.5, 1]).sha256}) == 4
    assert one.with_trials(9).trials == 9 and one.with_trials(None) == one


def test_an_unknown_space_is_named_with_the_nearest():
    with pytest.raises(UserError, match="unknown space 'tiny-opne'") as caught:
        read_space("tiny-opne")
    assert "did you mean tiny-open?" in caught.value.remedy
