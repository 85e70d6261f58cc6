"""The load of experts, against examples computed by hand and against golden runs."""

import math

import micro
import numpy as np
import pytest
import torch
from golden_runs import MOE, golden_fixture  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from micro import finished_fixture  # noqa: F401

from harness.evaluate.router_health import bias_ranges
from harness.record.load import Load, router_health
from harness.report.run_data import load_run


def health(*counts, top_k=2):
    """Of one layer."""
    return router_health(np.array([counts]), [0.1], [0.0], [0], top_k).layers[0]


def test_equal_loads_are_perfectly_healthy():
    h = health(5, 5, 5, 5)
    assert h.entropy == pytest.approx(math.log(4)) and h.entropy_ratio == pytest.approx(1)
    assert h.effective_experts == pytest.approx(4) and h.cv_percent == 0 and h.balance == 1
    assert h.max_load_percent == 25 and h.dominance == 0.5 and (h.active, h.dead) == (4, 0)


def test_an_expert_in_every_top_k_has_a_load_of_100_over_k_and_dominance_1():
    h = health(100, 50, 25, 25)  # 100 tokens, top-2
    assert h.max_load_percent == 50 and h.dominance == 1
    assert h.entropy == pytest.approx(-(0.5 * math.log(0.5) + 0.25 * math.log(0.25) + 2 * 0.125 * math.log(0.125)))
    assert h.cv_percent == pytest.approx(100 * math.sqrt((50**2 + 0 + 25**2 + 25**2) / 4) / 50)


def test_dead_experts_are_counted_and_contribute_no_entropy():
    h = health(8, 8, 0, 0)
    assert (h.active, h.dead) == (2, 2) and h.balance == 0
    assert h.entropy == pytest.approx(math.log(2)) and h.effective_experts == pytest.approx(2)
    assert h.entropy_ratio == pytest.approx(0.5) and h.cv_percent == pytest.approx(100)


def test_all_rows_on_one_expert_is_no_entropy_at_all():
    h = health(0, 7, 0, 0, top_k=1)
    assert h.entropy == 0 and h.effective_experts == 1 and h.dominance == 1 and h.max_load_percent == 100


def test_a_single_expert_is_healthy():
    h = health(7, top_k=1)
    assert h.entropy_ratio == 1 and h.dominance == 1 and h.dead == 0


def test_counts_beyond_the_precision_of_fp32_are_exact():
    assert health(2**40 + 1, 2**40).balance == 2**40 / (2**40 + 1)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=40).filter(any), st.integers(1, 4))
def test_figures_stay_in_their_ranges(counts, top_k):
    h = health(*counts, top_k=top_k)
    assert -1e-9 <= h.entropy_ratio <= 1 + 1e-9 and 1 - 1e-9 <= h.effective_experts <= len(counts) + 1e-6
    assert h.active + h.dead == len(counts) and 0 <= h.balance <= 1
    assert 100 / len(counts) - 1e-9 <= h.max_load_percent <= 100


def test_the_summary_is_the_worst_of_the_layers():
    counts = np.array([[4, 4, 4, 4], [8, 8, 0, 0], [10, 2, 2, 2]])
    found = router_health(counts, [0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [1, 2, 5], 2)
    assert [row.layer for row in found.layers] == [1, 2, 5]
    assert [row.bias_range for row in found.layers] == [1, 2, 3]
    assert [row.margin for row in found.layers] == pytest.approx([0.1, 0.2, 0.3])
    assert found.dead == 2 and found.worst_entropy_ratio == pytest.approx(0.5)
    assert found.max_load_percent == 62.5 and found.dominance == 1.25


def test_the_figures_of_many_windows_and_layers_are_those_of_each():
    uniform, dominant = [10] * 8, [40, 40, 0, 0, 0, 0, 0, 0]  # top-2, one pair takes all
    load = Load.of([[uniform, dominant]])
    assert load.entropy_ratio.tolist() == [[pytest.approx(1), pytest.approx(1 / 3)]]
    assert load.max_load_percent.tolist() == [[12.5, 50.0]] and load.busiest.tolist() == [[1, 4]]
    assert load.cv_percent.tolist() == [[0, pytest.approx(100 * 3**0.5)]]
    assert load.dead.tolist() == [[0, 6]] and load.relative[0, 1].tolist() == [4, 4, 0, 0, 0, 0, 0, 0]


def test_layers_without_rows_and_models_without_layers_have_figures_too():
    assert Load.of([[0, 0]]).cv_percent.tolist() == [0] and Load.of([[0, 0]]).entropy.tolist() == [0]
    none = Load.of([], 16)
    assert none.relative.shape == (0, 16)
    assert all(
        len(figure) == 0 for figure in (none.entropy, none.entropy_ratio, none.max_load_percent, none.cv_percent, none.dead)
    )


@pytest.mark.parametrize("name", MOE)
def test_golden_records_have_the_bits_that_their_counts_give(golden, name):
    """Whatever machine and library they were computed with."""
    run = load_run(golden(name))
    stated = run.record.router_health
    kept = [[getattr(row, name) for row in stated.layers] for name in ("margin", "bias_range", "dropped")]
    dropped = [share for share in kept[2] if share is not None]
    found = router_health(np.array(run.final["counts"]), *kept[:2], run.moe_layers, run.top_k, dropped)
    assert found.content() == stated.content()


def test_a_dense_model_has_no_router_health(finished):
    assert router_health(np.zeros((0, 0)), [], [], [], 0) is None
    assert micro.record(finished("dense")).router_health is None


def test_the_router_health_of_a_record_holds_every_moe_layer(finished):
    found = micro.record(finished("moe")).router_health
    assert [row.layer for row in found.layers] == [0, 1]
    assert all(row.active + row.dead == 8 and row.margin > 0 for row in found.layers)


def test_bias_ranges_are_max_minus_min_and_zero_without_a_bias():
    model = micro.session().model
    model.blocks[1].feedforward.router.bias.copy_(torch.tensor([-1.0, 0, 0, 0, 0, 0, 0, 3.0]))
    assert bias_ranges(model) == [0, 4]
    assert bias_ranges(micro.session("model.router=hash", "balance=none").model) == [0, 0]
    assert bias_ranges(micro.session(lane=micro.DENSE).model) == []
