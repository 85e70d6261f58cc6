"""Two executions of one plan: equal bits, rounding, and fresh seeds are told apart."""

import math
import random

import pytest

from harness.report.verify.executions import (
    EARLY_TOLERANCE,
    LATE_TOLERANCE,
    SCORE_TOLERANCE,
    compare,
    parting,
    try_fresh_seed,
    window_losses,
)


def rows(loss=lambda step: 4.0 - 0.01 * step, chain="c", slice_bpb=2.0, steps=32):
    kinds = {
        "step": [{"step": s, "tokens": 8 * s, "loss": loss(s), "grad_norm": 1.0, "lr_scale": 1.0} for s in range(1, steps + 1)],
        "window": [{"step": s, "tokens": 8 * s, "chain": f"{chain}{s}", "counts": [[4, 4]]} for s in range(8, steps + 1, 8)],
        "validation": [{"step": 16, "tokens": 128, "slice_bpb": slice_bpb}],
        "final": [],
    }
    return kinds


def scaled(by, since=1, until=99):
    return rows(lambda step: (4.0 - 0.01 * step) * (1 + (by if since <= step <= until else 0)), chain="other")


def test_two_executions_with_the_same_numbers_have_equal_bits():
    result = compare(rows(), rows(), 32)
    assert result.equal_bits and result.within_tolerance and result.steps == 32 and result.largest == 0


def test_the_first_step_that_differs_is_named():
    result = compare(rows(), scaled(1e-7, since=11), 32)
    assert not result.equal_bits and result.difference.startswith("step 8: the hash chain")
    assert compare(rows(), rows(lambda s: 4.0 - 0.01 * s + (s == 11) * 1e-6), 32).difference.startswith("step 11: loss is")


def test_what_lies_beyond_the_executed_steps_is_not_looked_at():
    assert compare(rows(), rows(lambda s: 4.0 - 0.01 * s + (s > 16)), 16).equal_bits


@pytest.mark.parametrize(
    "since, until, bound", [(1, 16, EARLY_TOLERANCE), (17, 32, LATE_TOLERANCE)], ids=["first steps", "later steps"]
)
def test_rounding_is_within_tolerance_up_to_its_bound_and_no_further(since, until, bound):
    assert compare(rows(), scaled(0.99 * bound, since, until), 32).within_tolerance
    assert not compare(rows(), scaled(1.01 * bound, since, until), 32).within_tolerance


def test_a_score_beyond_its_bound_is_not_within_tolerance():
    assert compare(rows(), rows(slice_bpb=2.0 * (1 + 0.99 * SCORE_TOLERANCE)), 32).within_tolerance
    assert not compare(rows(), rows(slice_bpb=2.0 * (1 + 1.01 * SCORE_TOLERANCE)), 32).within_tolerance


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_finite_number_is_within_nothing(broken):
    for a, b in ((rows(), rows(lambda s: broken)), (rows(lambda s: broken), rows())):
        assert not compare(a, b, 32).within_tolerance


def test_a_missing_row_is_a_difference():
    short = rows()
    short["window"] = short["window"][1:]
    assert "the record has no window row" in compare(short, rows(), 32).difference


def test_equal_chains_over_unequal_losses_are_a_contradiction_on_any_machine():
    changed = rows(lambda s: 4.0 - 0.01 * s + (s == 3) * 1e-6)
    assert "of step 3" in compare(changed, rows(), 32).contradiction
    assert compare(scaled(1e-6), rows(), 32).contradiction is None


def test_window_losses_are_means_of_whole_windows():
    assert window_losses(rows(float, steps=20), 20) == [4.5, 12.5]


def seeds(n, shift=0.0):
    draw = random.Random(5)
    return {
        seed: [4.0 + draw.gauss(0, 0.01), 3.0 + draw.gauss(0, 0.01) + (shift if seed == 1 else 0)] for seed in range(1, n + 1)
    }


def test_a_fresh_seed_among_recorded_ones_passes_and_one_far_away_does_not():
    assert try_fresh_seed(seeds(4), 1, 9, [4.0, 3.0]).problem is None
    assert "fresh seed 9" in try_fresh_seed(seeds(4), 1, 9, [4.0, 3.5]).problem


def test_a_record_that_lies_outside_the_other_seeds_does_not_pass():
    """Its own figures widen the interval that the fresh seed falls into: so it is tested against the others too."""
    assert "the record's seed 1" in try_fresh_seed(seeds(6, shift=-0.4), 1, 9, [4.0, 3.0]).problem


def test_two_recorded_seeds_show_no_interval():
    assert "3 are needed" in try_fresh_seed(seeds(2), 1, 9, [4.0, 3.0]).problem


@pytest.mark.parametrize(
    "theirs, found",
    [
        ([(16, "a"), (32, "b"), (48, "c")], (48, None)),
        ([(16, "a"), (32, "x"), (48, "y")], (16, 32)),
        ([(16, "x")], (0, 16)),
        ([(16, "a"), (40, "x")], (16, None)),  # no window of both shows it
    ],
)
def test_two_executions_part_in_the_first_window_of_both_that_has_two_chains(theirs, found):
    assert parting([(16, "a"), (32, "b"), (48, "c")], theirs) == found
