"""Rows of metrics.jsonl as points of curves."""

import math

import pytest

from harness.record.points import points


def step(number, loss=3.0):
    return {"kind": "step", "step": number, "tokens": number, "loss": loss, "grad_norm": 1.0, "lr_scale": 0.5}


def window(number, train_s, counts=((2, 2), (4, 0))):
    return {"kind": "window", "step": number, "tokens": number, "train_s": train_s, "tokens_per_second": 9.0, "mfu": 0.1,
            "chain": "c", "counts": [list(c) for c in counts], "bias_range": [0.25] * len(counts),
            "groups": {"dense": {"grad_rms": 1.0, "update_rms": 0.5, "param_rms": 2.0}}}  # fmt: skip


def found(rows, ended=True, moe_layers=(0, 1)):
    return {(p.name, p.step): (p.value, p.seconds) for p in points(rows, list(moe_layers), ended)}


def test_steps_run_evenly_between_the_clocks_of_two_windows():
    rows = [step(1), step(2), window(2, 10.0), step(3), step(4), window(4, 14.0)]
    assert [found(rows)["loss", s][1] for s in (1, 2, 3, 4)] == [5.0, 10.0, 12.0, 14.0]


def test_steps_wait_for_their_window_while_the_run_goes_on():
    rows = [step(1), step(2), window(2, 10.0), step(3, loss=2.5)]
    assert ("loss", 3) not in found(rows, ended=False)
    assert found(rows, ended=True)["loss", 3] == (2.5, 10.0)


def test_router_metrics_are_named_by_the_layer_of_the_model():
    got = found([window(2, 10.0) | {"dropped": [0.25, 0.5]}], moe_layers=[1, 3])
    assert got["router/layer_1/entropy_ratio", 2][0] == pytest.approx(1.0) and got["router/layer_1/dead", 2][0] == 0
    assert got["router/layer_3/entropy_ratio", 2][0] == 0 and got["router/layer_3/dead", 2][0] == 1
    assert got["router/layer_3/max_load_percent", 2][0] == 100 and got["router/layer_3/bias_range", 2][0] == 0.25
    assert got["router/layer_1/dropped", 2][0] == 0.25 and got["router/layer_3/dropped", 2][0] == 0.5
    assert got["update_ratio/dense", 2][0] == 0.25


def test_auxiliary_losses_have_curves_of_their_own():
    got = found([step(1) | {"auxiliary": {"z_loss": 4.0}}, window(1, 10.0)])
    assert got["auxiliary/z_loss", 1] == (4.0, 10.0) and got["loss", 1] == (3.0, 10.0)


def test_a_score_that_a_run_does_not_have_gives_no_point():
    final = {"kind": "final", "step": 4, "val_bpb": 1.5, "val_bpb_clean": None, "slice_bpb_shuffled_routing": math.nan}
    assert ("val_bpb_clean", 4) not in found([window(4, 9.0), final]) and found([window(4, 9.0), final])["val_bpb", 4] == (
        1.5,
        9.0,
    )
