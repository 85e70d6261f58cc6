"""How long a point will take: by its own runs, else by those of other sizes, else as counted; and what is beside training."""

import math
from types import SimpleNamespace

import pytest
from series_factory import HERE, series

import harness.launch.series.seconds
from harness.launch.series.points import points_of
from harness.launch.series.seconds import SETUP_S, START_S, Seconds

POINTS = points_of(series(sizes=[3, 4, 5, 6, 8]))
COUNTED_S = 5.0


@pytest.fixture
def seconds(monkeypatch):
    monkeypatch.setattr(harness.launch.series.seconds, "detect", lambda plan: None)
    monkeypatch.setattr(harness.launch.series.seconds, "run_seconds", lambda plan, counts, here: COUNTED_S)
    return Seconds(HERE, 0)


def run(point, rate, beside_s=9.0, hardware_class=HERE):
    """A run that trained `rate` tokens a second, and took so long beside that."""
    train_s = point.tokens / rate
    record = SimpleNamespace(
        speed_class=hardware_class, metrics=SimpleNamespace(tokens=point.tokens),
        clock=SimpleNamespace(train_s=train_s, wall_s=train_s + beside_s),
    )  # fmt: skip
    return SimpleNamespace(record=record)


def test_without_any_run_seconds_are_those_that_are_counted_and_a_start(seconds):
    found, source = seconds.of(POINTS["dense-s4-c1"])
    assert source == "counted" and found == pytest.approx(COUNTED_S + START_S + SETUP_S)


def test_a_run_of_another_budget_tells_the_rate_of_its_model_and_what_is_beside(seconds):
    seconds.learn(POINTS["dense-s4-c1"], run(POINTS["dense-s4-c1"], 1000, beside_s=9))
    larger = POINTS["dense-s4-c2"]
    found, source = seconds.of(larger)
    assert source == "its own runs" and found == pytest.approx(larger.tokens / 1000 + 9 + START_S)
    seconds.learn(POINTS["dense-s4-c1"], run(POINTS["dense-s4-c1"], 500), wall_s=POINTS["dense-s4-c1"].tokens / 500 + 40)
    assert seconds.of(larger)[0] == pytest.approx(larger.tokens / 500 + 40), "the slowest of its runs"


def test_between_two_sizes_flops_a_second_lie_on_a_line_and_beyond_them_stay(seconds):
    small, between, large, beyond = (POINTS[f"dense-s{size}-c1"] for size in (3, 5, 6, 8))
    for point, flops in ((small, 1e9), (large, 4e9)):
        seconds.learn(point, run(point, flops / point.counts.flops_per_token))

    def speed(point):
        found, source = seconds.of(point)
        assert source == "other sizes"
        return point.counts.flops_per_token * point.tokens / (found - START_S - SETUP_S)

    share = math.log(between.counts.flops_per_token / small.counts.flops_per_token)
    share /= math.log(large.counts.flops_per_token / small.counts.flops_per_token)
    assert speed(between) == pytest.approx(1e9 * 4**share) and speed(beyond) == pytest.approx(4e9)


def test_runs_of_another_class_and_another_family_tell_nothing(seconds):
    seconds.learn(POINTS["dense-s4-c1"], run(POINTS["dense-s4-c1"], 1000, hardware_class="another"))
    seconds.learn(POINTS["moe-s4-c1"], run(POINTS["moe-s4-c1"], 1000))
    assert seconds.of(POINTS["dense-s4-c1"])[1] == "counted"
