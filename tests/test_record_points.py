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


def test_what_a_format_does_is_named_by_tensor_and_layer_and_is_left_out_where_it_is_no_number():
    row = window(2, 10.0)
    row["precision"] = {
        "tensors": {
            "0": {"input": {"snr_db": 20.5, "underflow": 0.25, "saturation": 0.5, "smallest": 1e-3}},
            "11": {"hidden": {"snr_db": math.inf, "underflow": 0.0, "saturation": 0.0, "smallest": 0.0},
                   "weight_up": {"snr_db": math.nan, "underflow": 0.0, "saturation": 0.0, "smallest": 0.0}},
        },
        "flips": {"0": {"up": 0.125, "down": 0.0}, "11": {}},
        "router_grad_rms": {"0": 2e-6}, "smallest_step": {"0": 1e-6},
    }  # fmt: skip
    got = {name: value for (name, _), (value, seconds) in found([row]).items() if name.startswith("precision/")}
    assert got == {
        "precision/snr_db/input/layer0": 20.5, "precision/underflow/input/layer0": 0.25,
        "precision/saturation/input/layer0": 0.5,
        "precision/underflow/hidden/layer11": 0, "precision/saturation/hidden/layer11": 0,
        "precision/underflow/weight_up/layer11": 0, "precision/saturation/weight_up/layer11": 0,
        "precision/flips/up/layer0": 0.125, "precision/flips/down/layer0": 0,
        "precision/router_grad_rms/layer0": 2e-6, "precision/smallest_step/layer0": 1e-6,
    }  # fmt: skip
    assert all(math.isfinite(value) for value, _ in found([row]).values())


def test_bf16_has_no_points_of_precision():
    assert not [name for name, _ in found([window(2, 10.0)]) if name.startswith("precision")]
