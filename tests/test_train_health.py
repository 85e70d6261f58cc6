"""Monitor: what stops a run, what does not, and what a stopped run leaves behind."""

import json
import math
from types import SimpleNamespace

import micro
import numpy as np
import pytest
import torch
from micro import no_figures_fixture  # noqa: F401

import harness.train.ending
from harness.evaluate.bpb import Score
from harness.plan.schema import Health
from harness.train import checkpoint
from harness.train.health import HealthStop, Monitor, collapse_remedy

NAMES = ["embedding", "blocks.0.router.weight"]
EVEN = [[2, 2, 2, 2], [2, 2, 2, 2]]


def monitor(window_steps=4, layers=(1, 3), top_k=2, **words):
    return Monitor(Health(window_steps=window_steps, **words), NAMES, list(layers), top_k, "a remedy")


def feed(watcher, losses, counts=EVEN, start=1):
    for step, loss in enumerate(losses, start):
        watcher.see(step, loss, [1.0, 1.0], counts)


def stop_of(watcher, losses, counts=EVEN, norms=(1.0, 1.0)):
    with pytest.raises(HealthStop) as caught:
        for step, loss in enumerate(losses, 1):
            watcher.see(step, loss, list(norms), counts)
    return caught.value


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_names_the_parameter_and_the_step(bad):
    stop = stop_of(monitor(), [2.0], norms=(1.0, bad))
    assert stop.reason == "nan" and stop.step == 1
    assert "step 1" in stop.what and "blocks.0.router.weight" in stop.what and "embedding" not in stop.what
    assert "optim.muon.lr" in stop.remedy


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step():
    stop = stop_of(monitor(), [2.0, 2.0, math.nan])
    assert (stop.reason, stop.step) == ("nan", 3) and "the loss" in stop.what


def test_many_bad_gradients_are_counted_not_listed():
    watcher = Monitor(Health(), [f"p{i}" for i in range(9)], [], 0, "")
    with pytest.raises(HealthStop, match="gradients of p0, p1, p2 and 6 more"):
        watcher.see(1, 1.0, [math.nan] * 9, [])


def test_a_window_far_above_the_best_one_is_divergence():
    stop = stop_of(monitor(divergence_factor=1.5), [2.0] * 4 + [1.0] * 4 + [1.6] * 4)
    assert (stop.reason, stop.step) == ("divergence", 12)
    assert "1.600" in stop.what and "1.000" in stop.what


def test_a_window_a_little_above_the_best_one_and_a_single_spike_are_no_divergence():
    feed(monitor(divergence_factor=1.5), [1.0] * 4 + [1.5] * 4 + [1.0, 1.0, 1.0, 2.9])


def test_an_expert_in_every_top_k_set_is_a_collapse_that_names_layer_and_expert():
    stop = stop_of(monitor(collapse_load=0.95), [2.0] * 4, [[2, 2, 2, 2], [1, 1, 4, 2]])
    assert (stop.reason, stop.step) == ("collapse", 4)
    assert "layer 3" in stop.what and "expert 2" in stop.what and "100%" in stop.what


def test_an_expert_just_under_the_bound_is_no_collapse():
    watcher = monitor(collapse_load=0.95)
    feed(watcher, [2.0] * 4, [[2, 2, 2, 2], [94, 40, 36, 30]])
    assert watcher.last_dominance == pytest.approx(94 * 2 / 200)


def test_dominance_is_no_collapse_where_every_token_goes_to_every_expert():
    feed(monitor(top_k=4), [2.0] * 8, [[2, 2, 2, 2], [2, 2, 2, 2]])


def test_too_many_dead_experts_are_a_collapse_and_a_few_are_counted():
    watcher = monitor(dead_share=0.25, collapse_load=2)
    feed(watcher, [2.0] * 4, [[3, 3, 2, 0], [2, 2, 2, 2]])
    assert watcher.last_dead == 1
    stop = stop_of(monitor(dead_share=0.25, collapse_load=2), [2.0] * 4, [[2, 2, 2, 2], [4, 4, 0, 0]])
    assert stop.reason == "collapse" and "layer 3" in stop.what and "2 of 4 experts dead" in stop.what


def test_an_expert_is_dead_only_over_a_whole_window():
    watcher = monitor(dead_share=0.0)
    for step in range(1, 9):
        watcher.see(step, 2.0, [1.0, 1.0], [[4 * (step % 2), 4, 4, 4 * (step % 2 == 0)]] * 2)
    assert watcher.last_dead == 0


def test_a_healthy_dense_and_a_healthy_moe_run_pass():
    feed(monitor(), [4 - 0.1 * i for i in range(20)])
    dense = monitor(layers=())
    feed(dense, [4 - 0.1 * i for i in range(20)], counts=[])
    assert dense.last_dead == 0 and dense.last_dominance == 0


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_window_cut_by_a_checkpoint_is_judged_as_an_uncut_one(cut):
    """Counts and losses differ by step, so that a window that forgot its first half would judge otherwise."""

    def steps():
        for step in range(1, 9):
            yield step, 2.0 - 0.1 * step, [1.0, 1.0], [[step, 9 - step, 1, 1 * (step < 3)], [1, 1, 1, 1]]

    whole, first, second = monitor(collapse_load=2, dead_share=1), monitor(collapse_load=2, dead_share=1), None
    for row in steps():
        whole.see(*row)
        (second or first).see(*row)
        if row[0] == cut:
            second = monitor(collapse_load=2, dead_share=1)
            second.restore(json.loads(json.dumps(first.state())))
    assert second.state() == whole.state()


def test_a_run_that_diverges_to_nan_stops_with_status_3_and_keeps_a_good_checkpoint(tmp_path, capsys):
    words = ("optim.adamw.lr=1e38", "schedule.warmup_share=0", "run.checkpoint_every_s=0", "run.log_every_steps=1")
    assert micro.speedrun(tmp_path, *words) == 3
    run_folder = micro.the_folder(tmp_path)
    stopped = json.loads((run_folder / "stopped.json").read_text())
    said = capsys.readouterr().err
    assert stopped["reason"] == "nan" and stopped["step"] >= 1 and f"step {stopped['step']}" in said
    assert not (run_folder / "record.json").exists()
    assert stopped["checkpoints"] == micro.checkpointed_steps(run_folder)
    for step in stopped["checkpoints"]:
        assert step < stopped["step"]
        for name, tensor in checkpoint.load(run_folder / "checkpoints", step).tensors.items():
            assert not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()), f"{name} of step {step}"


def test_a_nan_is_found_at_its_own_step_however_seldom_is_logged(tmp_path):
    def stopped_step(folder, every):
        words = ("optim.adamw.lr=1e38", "schedule.warmup_share=0", f"run.log_every_steps={every}")
        assert micro.speedrun(folder, *words) == 3
        return json.loads((micro.the_folder(folder) / "stopped.json").read_text())["step"]

    assert stopped_step(tmp_path / "a", 1) == stopped_step(tmp_path / "b", 8)


def test_weights_that_turn_bad_in_the_very_last_step_are_stopped_by_health_too(tmp_path, no_figures, capsys):
    words = ("optim.adamw.lr=1e38", "schedule.warmup_share=0", "budget.tokens=256")
    assert micro.speedrun(tmp_path, *words) == 3
    assert (micro.the_folder(tmp_path) / "stopped.json").exists()
    assert "stopped by health (nan)" in capsys.readouterr().err


def test_a_score_that_is_not_finite_beyond_the_slice_stops_the_run_as_one_within_it_does():
    """The slice is the first part of val: the curve's last point is fine, all of val is not."""
    found = Score(np.array([1.0, 2.0, math.nan]), torch.zeros(0, 0), torch.zeros(0))
    loop = SimpleNamespace(plan=SimpleNamespace(steps=4), score=lambda *_: found, add_point=lambda step, score: None)
    with pytest.raises(HealthStop, match="step 4: the score of a token of val not finite"):
        harness.train.ending._final_scores(loop, np.zeros(4), None)


def test_a_collapsing_router_stops_the_run_and_names_the_layer(tmp_path, capsys):
    """Balancing turned up until the bias alone decides where tokens go."""
    bounds = ("health.window_steps=4", "health.collapse_load=0.3", "health.dead_share=1")
    assert micro.speedrun(tmp_path, "balance.rate=1e9", *bounds) == 3
    said = capsys.readouterr().err
    assert "stopped by health (collapse)" in said and "layer " in said
    run_folder = micro.the_folder(tmp_path)
    stopped = json.loads((run_folder / "stopped.json").read_text())
    assert stopped["step"] == 4
    assert [sum(count) for count in stopped["counts"]] == [4 * 256 * 2] * 2, "the window that was judged, by layer"
    logged = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged if row["kind"] == "step"] == [1, 2, 3], "the steps that led to the stop are evidence"


@pytest.mark.parametrize(
    "words, remedy",
    [
        ((), "balance.rate=0.02 now"),
        (("balance=switch",), "balance.aux_loss_coef=0.01 now"),
        (("balance=sequence",), "balance.sequence_loss_coef=0.01 now"),
        (("balance=none",), "balance=bias"),
        (("balance=none", "model.router=softmax_topk"), "balance=switch"),
        (("balance=none", "model.router=hash"), "a learned router"),
    ],
)
def test_the_remedy_of_a_collapse_is_a_dial_that_turns_something_in_this_plan(words, remedy):
    said = collapse_remedy(micro.compose([*micro.MOE, *words]).plan)
    assert remedy in said and ("balance.rate" in said) == (remedy == "balance.rate=0.02 now")
