"""The record: what it must hold, and that what it derives can be derived again from what lies beside it."""

import math
from types import SimpleNamespace

import micro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from micro import finished_fixture, no_figures_fixture  # noqa: F401
from pydantic import BaseModel

import harness.data.prepare
from harness.files import file_sha256
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.record.record import EVIDENCE, artifacts, content_hash, to_target, unranked_reasons, write
from harness.record.schema import Artifact, Metrics, Target

REQUIRED = (
    "schema_version lane track seed ranked unranked_reasons resumes plan_hash hardware_class data metrics.val_bpb "
    "metrics.curve metrics.time_to_target_s metrics.target_reached metrics.tokens metrics.tokens_per_second metrics.mfu "
    "metrics.peak_memory_bytes clock.train_s clock.compile_s clock.warmup_s clock.validation_s clock.checkpoint_s "
    "clock.final_evaluation_s clock.wall_s router_health counts.params_total counts.params_active counts.flops_per_token "
    "determinism.chain determinism.weights provenance artifacts"
).split()
CURVE = [
    {"step": 1, "tokens": 100, "train_s": 10.0, "slice_bpb": 3.0},
    {"step": 2, "tokens": 200, "train_s": 30.0, "slice_bpb": 2.0},
    {"step": 3, "tokens": 300, "train_s": 40.0, "slice_bpb": 2.5},
    {"step": 4, "tokens": 400, "train_s": 50.0, "slice_bpb": 1.0},
]


def health_of(dead: int, dominance: float) -> SimpleNamespace:
    return SimpleNamespace(dead=dead, dominance=dominance)


HEALTHY, CLEAN, DIRTY = health_of(0, 0.5), SimpleNamespace(dirty=False), SimpleNamespace(dirty=True)


@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_a_record_has_every_required_key(finished, kind):
    for key in REQUIRED:
        node = micro.record_json(finished(kind))
        for part in key.split("."):
            assert part in node, key
            node = node[part]


@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_a_record_has_no_field_that_its_type_does_not_name(finished, kind):
    assert list(unnamed(micro.record(finished(kind)))) == []
    assert micro.record(finished(kind)).content() == micro.record_json(finished(kind))


def unnamed(node, place="record"):
    """The places of what a newer harness would have written, below a model."""
    for name, value in node if isinstance(node, BaseModel) else ():
        if name in (node.model_extra or {}):
            yield f"{place}.{name}"
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            yield from unnamed(item, f"{place}.{name}")


def test_a_record_says_what_was_run(finished):
    record, plan = micro.record(finished()), compose(micro.MOE).plan
    assert (record.schema_version, record.lane, record.track, record.seed) == (1, "tiny-moe-16e", "tiny", 1)
    assert record.plan_hash == plan_hash(plan) and finished().name == f"1-{record.plan_hash[:8]}"
    assert record.data.train_sha256 == plan.track.train_sha256 and record.data.val_sha256 == plan.track.val_sha256
    assert record.metrics.partial and record.metrics.scored_bytes == 8192
    assert record.metrics.target == Target(line="xz_given_train", slice_bpb=1.6624)
    assert record.counts.params_total == sum(t.numel() for n, t in micro.weights(finished()).items() if "bias" not in n)
    assert record.provenance.started_at <= record.provenance.finished_at


def test_the_artifacts_are_the_files_beside_the_record(finished):
    listed = micro.record(finished()).artifacts
    assert listed.keys() == set(EVIDENCE)
    for name, found in listed.items():
        assert found == Artifact(sha256=file_sha256(finished() / name), bytes=(finished() / name).stat().st_size)


@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_speed_and_mfu_follow_from_tokens_seconds_and_flops(finished, kind):
    record = micro.record(finished(kind))
    metrics, train_s = record.metrics, record.clock.train_s
    assert metrics.tokens == 8192 == micro.rows(finished(kind), "step")[-1]["tokens"]
    assert metrics.tokens_per_second == pytest.approx(8192 / train_s)
    assert metrics.step_s == pytest.approx(train_s / micro.STEPS)
    flops = metrics.tokens_per_second * record.counts.flops_per_token
    assert metrics.mfu == pytest.approx(flops / record.hardware.matmul_peak_flops)


def test_the_curve_is_the_validations_of_the_metrics_and_ends_with_the_final_score(finished):
    metrics = micro.record(finished()).metrics
    rows = [{key: value for key, value in row.items() if key != "kind"} for row in micro.rows(finished(), "validation")]
    assert metrics.curve == rows and metrics.slice_bpb == rows[-1]["slice_bpb"]
    assert metrics.val_bpb == pytest.approx(metrics.slice_bpb, abs=1e-9)  # a partial run: the slice is all that is scored
    assert not metrics.target_reached and metrics.time_to_target_s is None and metrics.tokens_to_target is None


def test_a_target_within_reach_is_reached_at_the_interpolated_time(tmp_path, monkeypatch, no_figures):
    monkeypatch.setattr(harness.data.prepare, "prepare", lambda *_: None)  # it would refuse a line that is not what xz gives
    words = ("track.lines.xz_given_train.slice=5.0",)
    metrics = micro.record(micro.run(tmp_path, *words, lane=micro.DENSE)).metrics
    before, after = next((a, b) for a, b in zip(metrics.curve, metrics.curve[1:]) if b["slice_bpb"] <= 5 < a["slice_bpb"])
    share = (before["slice_bpb"] - 5) / (before["slice_bpb"] - after["slice_bpb"])
    assert metrics.target_reached and before["train_s"] < metrics.time_to_target_s <= after["train_s"]
    assert metrics.time_to_target_s == pytest.approx(before["train_s"] + share * (after["train_s"] - before["train_s"]))
    assert metrics.tokens_to_target == pytest.approx(before["tokens"] + share * 2048)


@pytest.mark.parametrize(
    "target, seconds, tokens",
    [
        (2.5, 20.0, 150),  # halfway between the first two, and at the first crossing only
        (2.0, 30.0, 200),
        (2.25, 25.0, 175),
        (1.75, 45.0, 350),
        (3.0, 10.0, 100),  # nothing stands before the first point
        (9.9, 10.0, 100),
        (1.0, 50.0, 400),
        (0.99, None, None),
    ],
)
def test_the_crossing_is_interpolated_between_the_validations_around_it(target, seconds, tokens):
    assert to_target(CURVE, target, "train_s") == (seconds if seconds is None else pytest.approx(seconds))
    assert to_target(CURVE, target, "tokens") == (tokens if tokens is None else pytest.approx(tokens))


def test_an_empty_curve_reaches_nothing():
    assert to_target([], 2.0, "train_s") is None


@given(st.lists(st.floats(0.5, 8), min_size=1, max_size=8), st.floats(0.5, 8))
def test_a_crossing_lies_between_the_points_around_it(bpbs, target):
    curve = [{"train_s": float(i), "slice_bpb": bpb} for i, bpb in enumerate(bpbs)]
    found = to_target(curve, target, "train_s")
    first = next((i for i, bpb in enumerate(bpbs) if bpb <= target), None)
    assert (found is None) == (first is None)
    if found is not None:
        assert max(0, first - 1) <= found <= first


def reasons(*, words=(), broken=None, provenance=CLEAN, resumes=0, health=HEALTHY, last_window=(0, 0.5)):
    plan = compose(["lane=tiny-moe-16e", *words]).plan
    return unranked_reasons(plan, broken or {}, provenance, resumes, health, last_window)


def test_an_untouched_clean_run_of_a_lane_is_ranked():
    assert reasons() == [] == reasons(health=None, last_window=(0, 0.0))


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"broken": {"model.top_k": (4, 2)}}, "model.top_k=2 instead of 4"),
        ({"words": ("unranked=true",)}, "unranked=true"),
        ({"words": ("fork=runs/a@7",)}, "forked from runs/a@7"),
        ({"resumes": 1}, "resumed 1 time"),
        ({"resumes": 3}, "resumed 3 times"),
        ({"provenance": DIRTY}, "the source tree had uncommitted changes"),
        ({"health": health_of(2, 0.5)}, "2 dead experts"),
        ({"last_window": (3, 0.5)}, "3 dead experts"),
        ({"health": health_of(0, 0.97)}, "an expert in 97% of all top-k sets"),
        ({"last_window": (0, 1.0)}, "an expert in 100% of all top-k sets"),
    ],
)
def test_each_reason_alone_makes_a_run_unranked(change, reason):
    assert reasons(**change) == [reason]


def test_a_broken_key_and_a_dirty_tree_are_both_named():
    found = reasons(words=("unranked=true",), broken={"model.top_k": (4, 2)}, provenance=DIRTY)
    assert found == ["model.top_k=2 instead of 4", "the source tree had uncommitted changes"]


def test_a_router_that_uses_every_expert_for_every_token_is_not_dominant():
    words = ("unranked=true", "model.top_k=16", "balance=none")
    assert reasons(words=words, broken={"x": (1, 2)}, health=health_of(0, 1.0)) == ["x=2 instead of 1"]


def test_micro_runs_name_every_frozen_key_they_changed(finished):
    record = micro.record(finished())
    assert not record.ranked
    assert {"model.width=32 instead of 256", "budget.tokens=8192 instead of 1572864"} <= set(record.unranked_reasons)


def test_a_number_that_is_no_number_never_gets_into_a_record(tmp_path, finished):
    folder = SimpleNamespace(path=tmp_path, write=lambda name, text: (tmp_path / name).write_text(text))
    whole = micro.record(finished())
    with pytest.raises(ValueError):
        Metrics(**whole.metrics.content() | {"val_bpb": math.nan})
    layer = whole.router_health.layers[0].model_copy(update={"margin": math.nan})  # which its type allows
    with pytest.raises(ValueError):
        write(folder, whole.model_copy(update={"router_health": whole.router_health.model_copy(update={"layers": [layer]})}))
    assert not (tmp_path / "record.json").exists()


def test_a_record_lists_only_the_evidence_that_is_there(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert artifacts(tmp_path).keys() == {"metrics.jsonl"}


def test_the_hash_of_a_record_is_over_what_the_file_says(finished):
    content = micro.record_json(finished())
    assert content["content_sha256"] == content_hash(content) != content_hash(content | {"seed": 2})


def test_the_weights_file_is_the_state_of_the_model(finished):
    state = micro.session().model.state_dict()
    found = micro.weights(finished())
    assert found.keys() == state.keys() and all(found[name].shape == t.shape for name, t in state.items())
    assert all(bool(torch.isfinite(t).all()) for t in found.values())
