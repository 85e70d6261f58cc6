"""Series: what a file may say, which plans are its points, and that FLOPs counted are those that torch counts."""

import pytest
import series_factory
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import tokens
from test_model_counts import Seen
from torch.utils.flop_counter import FlopCounterMode

import harness.plan.series
from harness.errors import UserError
from harness.launch.series.points import LEAST_STEPS, active_width, points_of, study_of_points
from harness.model.build import build_model
from harness.model.where import Where
from harness.plan.fingerprint import flat
from harness.plan.series import VARIES, read_series, series_names

CHANGES = {
    "sizes": [1, 2, 3, 4],
    "budgets": [1e11, 2e11],
    "ahead": 4e11,
    "common": "batch.tokens_per_step=256 model.layers=2 model.sequence_length=32 schedule.decay_share=0.5",
}
FILE = series_factory.FILE | CHANGES


def series(**changes):
    return series_factory.series(**CHANGES | changes)


def read(tmp_path, monkeypatch, **changes):
    """The series of a file with these changes."""
    monkeypatch.setattr(harness.plan.series, "SERIES", tmp_path)
    (tmp_path / "example.yaml").write_text(yaml.safe_dump(FILE | changes))
    return read_series("example")


@pytest.fixture(scope="module")
def points():
    return points_of(series())


@pytest.mark.parametrize("name", series_names())
def test_every_series_has_points_that_compose_in_the_order_of_their_budgets(name):
    found = list(points_of(read_series(name)).values())
    assert [point.budget for point in found] == sorted(point.budget for point in found)
    assert {point.family for point in found} == read_series(name).families.keys()


def test_a_point_pays_its_budget_in_whole_steps_with_a_schedule_of_its_own(points):
    for point in points.values():
        step = point.plan.batch.tokens_per_step
        assert abs(point.flops - point.budget) <= point.counts.flops_per_token * step / 2
        assert point.tokens == point.plan.budget.tokens and point.tokens % step == 0
        assert point.plan.schedule.decay_share == 0.5 and point.plan.validation.steps == []


def test_points_of_one_size_differ_in_their_budget_and_of_one_family_in_the_dial(points):
    one, other, larger, moe = (flat(points[name].plan) for name in ("dense-s2-c1", "dense-s2-c3", "dense-s4-c1", "moe-s2-c1"))
    assert {key for key in one if one[key] != other[key]} == {"budget.tokens"}
    dial = {"model.width", "model.heads", "model.ffn_width"}
    assert {key for key in one if one[key] != larger[key]} == dial | {"budget.tokens"}
    assert (one["model.width"], larger["model.width"]) == (32, 64)
    assert all(key.startswith(VARIES) for key in one if one[key] != moe[key] and key != "budget.tokens")
    assert active_width(points["dense-s2-c1"].plan) == active_width(points["moe-s2-c1"].plan) == 2 * 64


def test_the_study_of_a_series_asks_for_the_very_plans_of_its_points(points):
    study = study_of_points(series(), list(points.values()))
    assert list(study.cases) == list(points) and len(points) == 2 * 4 * 3
    assert all(study.words(name) == point.words for name, point in points.items())


@pytest.mark.parametrize("name", [name for name in series_names() if not name.startswith("wiki")])
def test_flops_of_the_smallest_point_of_each_family_are_those_that_torch_counts(name):
    found = points_of(read_series(name))
    for family in read_series(name).families:
        point = next(point for point in found.values() if point.family == family)
        model, length = build_model(point.plan, "full", "reference"), point.plan.model.sequence_length
        for p in model.parameters():
            torch.nn.init.normal_(p, 0, 0.1)
        at = tokens(2, length)
        with torch.no_grad(), FlopCounterMode(display=False) as counter, Seen() as seen:
            model(Where(at), at)
        assert point.counts.flops_per_token / 3 == pytest.approx(
            (counter.get_total_flops() - seen.unseen) / at.numel(), rel=0.01
        )


WRONG = {
    "budgets 2e+11, 1e+11, 4e+11 do not rise": {"budgets": [2e11, 1e11]},
    "budgets 1e+11, 4e+11, 4e+11 do not rise, the one ahead last": {"budgets": [1e11, 4e11]},
    "sizes 1, 3, 2, 4 do not rise": {"sizes": [1, 3, 2, 4]},
    "3 sizes, of which a parabola over them needs 4": {"sizes": [1, 2, 3]},
    "of which each is one": {"seeds": [1, 1]},
    "budget.tokens=4 in common, which is a point's own": {"common": "budget.tokens=4"},
    "model.width=64 in common, which is set elsewhere": {"common": "model.width=64"},
    "family moe sets optim.muon.lr: families differ in the FFN": {"families": {"moe": {"words": "optim.muon.lr=0.1"}}},
    "family moe sets schedule: families differ in the FFN": {"families": {"moe": {"words": "schedule=wsd"}}},
    "family moe sets model.layers: families differ": {"families": {"moe": {"scaled": {"model.layers": 1}}}},
    "model.top_k=2 in family moe, which is set elsewhere": {
        "common": "model.top_k=2", "families": {"moe": {"words": "model.top_k=2"}}
    },
    "scaled model.with, which is no whole number of a plan": {"scaled": {"model.with": 1}},
    "scaled optim.muon.lr, which is no whole number of a plan": {"scaled": {"optim.muon.lr": 1}},
    "unknown field 'size': did you mean sizes?": {"size": [1]},
}  # fmt: skip


@pytest.mark.parametrize("said", WRONG)
def test_a_file_that_is_no_series_is_named_with_what_is_wrong(tmp_path, monkeypatch, said):
    with pytest.raises(UserError) as refused:
        read(tmp_path, monkeypatch, **WRONG[said])
    assert said in refused.value.problem and "sotu.yaml" in refused.value.remedy


def families(**moe):
    return {"dense": FILE["families"]["dense"], "moe": FILE["families"]["moe"] | moe}


UNLIKE = {
    "have 64 and 128 active hidden units in all layers at size 1": {"families": families(scaled={"model.expert_width": 32})},
    "size 1: model.heads=3 does not divide model.width=16": {"scaled": {"model.width": 16, "model.heads": 3}},
    f"pays for 7 steps of 256 tokens at 55,296 FLOPs a token; {LEAST_STEPS} are a schedule": {"budgets": [1e8, 2e11]},
    "scores 2,000,000 bytes of val, which has 1,062,581": {"scored": 2_000_000},
    "size 1: model.top_k=9 of model.num_experts=8": {
        "families": families(words="model.ffn_width=0 model.num_experts=8 model.top_k=9 balance=bias")
    },
}  # fmt: skip


@pytest.mark.parametrize("said", UNLIKE)
def test_points_that_cannot_be_compared_or_run_are_refused_before_anything_is(said):
    with pytest.raises(UserError) as refused:
        points_of(series(**UNLIKE[said]))
    assert said in refused.value.problem and refused.value.remedy


def test_words_of_a_call_join_what_all_points_share_and_may_not_set_a_points_own():
    assert series().with_words(["optim.muon.lr=0.01"]).shared[-1] == "optim.muon.lr=0.01"
    for word in ("model.width=64", "budget.tokens=1", "model.top_k=3", "seed=2", "validation.tokens=1", "++lane=sotu-dense"):
        with pytest.raises(UserError, match="this call"):
            series().with_words([word])


def test_an_unknown_series_is_told_with_the_nearest_name():
    with pytest.raises(UserError, match="unknown series 'soto'") as refused:
        read_series("soto")
    assert "sotu" in refused.value.remedy


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=5, unique=True))
def test_a_point_is_found_by_its_name(budgets):
    *grid, ahead = sorted(map(float, budgets))
    one = series(budgets=grid, ahead=ahead)
    names = [
        one.point_name(family, size, budget) for family in one.families for size in one.sizes for budget in one.all_budgets
    ]
    assert len(set(names)) == len(names)
