"""The verdict on a candidate: it errs as often as it says, and finds as much as it says."""

import math

import numpy as np
import pytest
from confirm_factory import LEVEL, seen
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from harness.errors import UserError
from harness.plan.space import Noise
from harness.record.confirmations import PROMOTED, TIE, VETOED, Known, Stopped
from harness.report.power import detectable, power
from harness.report.search.fit import LONGER, fitted
from harness.report.search.known import known, power_of
from harness.report.search.verdict import judge

RULES = {"level": LEVEL, "alpha": 0.01, "entropy": 0.85, "ranks": True}
NOISE = Noise()
TIMES = 1500


def pairs(n, random, *, fall=0.0, below=0.05, growth=0.0):
    """Candidate and incumbent of so many pairs, whose figures are normal with the spread of NOISE. `fall`: of ln seconds;
    `below` the line; `growth` of the gap."""

    def side(fall, below, growth):
        return [
            seen(
                seed, 100 * math.exp(-fall + NOISE.seconds_sd * random.standard_normal()),
                LEVEL - below + NOISE.slice_sd * random.standard_normal(),
                0.12 + growth + NOISE.gap_sd * random.standard_normal(),
            )
            for seed in range(n)
        ]  # fmt: skip

    return side(fall, below, growth), side(0.0, 0.05, 0.0)


def often(n, condition, seed=7, **effect):
    """How many of TIMES candidates with such an effect fail a condition."""
    random = np.random.default_rng(seed)
    return sum(condition in judge(*pairs(n, random, **effect), **RULES).failed for _ in range(TIMES))


@pytest.mark.parametrize("n", [3, 5])
def test_a_null_candidate_is_promoted_and_vetoed_as_rarely_as_alpha_says(n):
    random = np.random.default_rng(n)
    verdicts = [judge(*pairs(n, random), **RULES) for _ in range(TIMES)]
    promoted = sum(verdict.outcome == PROMOTED for verdict in verdicts)
    faster = sum("seconds" not in verdict.failed for verdict in verdicts)
    by_text = sum("rest" in verdict.failed for verdict in verdicts)
    low, high = binom.ppf([1e-4, 1 - 1e-4], TIMES, RULES["alpha"])
    assert promoted <= faster
    assert low <= faster <= high and low <= by_text <= high
    assert not any({"health", "machine", "line"} & set(verdict.failed) for verdict in verdicts)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_power_that_is_stated_is_the_power_that_is_had(n):
    said = power_of(Known.stated(NOISE), n, RULES["alpha"])
    low, high = binom.ppf([1e-4, 1 - 1e-4], TIMES, said.power)
    assert low <= TIMES - often(n, "seconds", fall=said.fall) <= high
    assert low <= TIMES - often(n, "line", below=said.slice) <= high
    assert low <= often(n, "rest", growth=said.gap) <= high


@given(st.integers(3, 30), st.floats(1e-4, 10), st.floats(1e-3, 0.2), st.floats(0.3, 0.95))
def test_power_and_the_smallest_difference_are_each_others_inverse(n, sd, alpha, wanted):
    least = detectable(n, sd, alpha, wanted)
    assert power(n, least, sd, alpha) == pytest.approx(wanted, abs=1e-4)
    assert detectable(n + 1, sd, alpha, wanted) < least
    assert power(n, 0, sd, alpha) == pytest.approx(alpha, rel=1e-6)


def better(**changes):
    """Three pairs of a candidate that is plainly ahead; `changes` of its runs, a list by key."""
    mine = [(1, 50.0, 1.650, 0.120), (2, 51.0, 1.651, 0.121), (3, 49.0, 1.652, 0.119)]
    theirs = [(1, 99.0, 1.650, 0.120), (2, 103.0, 1.652, 0.120), (3, 101.0, 1.651, 0.121)]
    changed = [{key: values[i] for key, values in changes.items()} for i in range(3)]
    return [seen(*run).model_copy(update=new) for run, new in zip(mine, changed)], [seen(*run) for run in theirs]


def test_a_candidate_that_is_ahead_is_promoted():
    verdict = judge(*better(), **RULES)
    assert (verdict.outcome, verdict.failed) == (PROMOTED, [])
    assert "-50.5%" in verdict.conditions[1].text and "grown at p" in verdict.conditions[3].text


@pytest.mark.parametrize(
    ("changes", "failed", "said"),
    [
        ({"slice": [1.70, 1.71, 1.72], "rest": [1.82, 1.831, 1.839]}, "line", "above the line's 1.6624"),
        ({"rest": [1.79, 1.792, 1.792]}, "rest", "rest minus slice 0.1403"),
        ({"rest": [None, None, None]}, "rest", "no text of val beyond the slice"),
        ({"entropy": [0.98, 0.84, 0.98]}, "health", "worst entropy 0.840 of even routing, at least 0.85"),
        ({"dead": [0, 0, 2]}, "health", "seed 3: 2 dead experts"),
        ({"health": [[], ["step 64, layer 0: 9 of 16 experts dead in a window"], []]}, "health", "seed 2: step 64, layer 0"),
        ({"unranked": [["resumed 1 time"], [], []]}, "health", "seed 1 is unranked: resumed 1 time"),
        ({"disturbed": [None, None, "others took 9% of its processor time"]}, "machine", "seed 3: others took 9%"),
    ],
)  # fmt: skip
def test_each_condition_vetoes_alone(changes, failed, said):
    verdict = judge(*better(**changes), **RULES)
    assert (verdict.outcome, verdict.failed) == (VETOED, [failed])
    assert said in next(found.text for found in verdict.conditions if found.name == failed)


def test_a_tie_is_called_one_and_a_slower_candidate_slower():
    tie = judge(*better(seconds=[99.0, 104.0, 100.0]), **RULES)
    assert tie.outcome == TIE and ": a tie, and the incumbent stays" in tie.conditions[1].text
    slower = judge(*better(seconds=[199.0, 204.0, 201.0]), **RULES)
    assert slower.outcome == TIE and ": slower, and the incumbent stays" in slower.conditions[1].text


def test_a_dense_candidate_has_no_router_and_an_unranked_lane_asks_for_no_rank():
    runs, against = better(entropy=[None] * 3, unranked=[["unranked=true"]] * 3)
    assert judge(runs, against, **RULES).failed == ["health"]
    assert judge(runs, against, **RULES | {"ranks": False}).outcome == PROMOTED


def test_a_run_that_health_stopped_is_a_veto_and_says_whose():
    verdict = judge([], [], **RULES, stopped=[Stopped(side="candidate", seed=1002, what="an expert in every set")])
    assert verdict.outcome == VETOED and "seed 1002 of the candidate was stopped: an expert" in verdict.conditions[0].text


def test_noise_is_the_space_s_until_runs_tell_and_disturbed_seconds_tell_nothing():
    random = np.random.default_rng(1)
    many = [pairs(5, random) for _ in range(40)]
    assert known(NOISE, many[:1]).pair_seconds_sd == pytest.approx(2**0.5 * NOISE.seconds_sd)
    found = known(NOISE, many)
    assert found.slice_sd == pytest.approx(NOISE.slice_sd, rel=0.2) and "of earlier runs" in found.source
    assert found.pair_seconds_sd == pytest.approx(2**0.5 * NOISE.seconds_sd, rel=0.2)
    disturbed = [([run.model_copy(update={"disturbed": "busy"}) for run in runs], against) for runs, against in many]
    assert known(NOISE, disturbed).source.startswith("slice of earlier runs, seconds as the space states")


@given(st.integers(50, 3000), st.floats(-0.2, 0.2), st.floats(0, 0.05), st.sampled_from([1024, 4096]), st.booleans())
def test_a_fitted_budget_is_where_the_slope_puts_the_line_in_whole_steps(steps, off, margin, step, missed):
    tokens, slope = steps * step, 0.25
    fit = fitted("a trial", tokens, LEVEL + off, 1, slope=slope, margin=margin, level=LEVEL, step=step, missed=missed)
    assert fit.tokens % step == 0
    wanted = tokens * math.exp((off + margin) / slope)
    if missed:
        assert fit.tokens >= LONGER * tokens and fit.tokens - max(wanted, LONGER * tokens) < step
    else:
        assert abs(fit.tokens - wanted) <= step / 2 or fit.tokens == step


def test_a_trial_that_is_far_from_the_line_is_not_fitted():
    with pytest.raises(UserError, match=r"a trial came to 2\.4000, the line is 1\.6624: .* which is no fit") as caught:
        fitted("a trial", 4096, 2.4, 1, slope=0.25, margin=0.01, level=LEVEL, step=4096)
    assert "fit=no" in caught.value.remedy


@given(st.floats(0.0005, 0.1), st.floats(0.05, 0.5), st.floats(0.5, 0.99) | st.floats(1.0, 1.5))
def test_a_start_plan_that_misses_the_line_is_given_the_seconds_that_would_bring_it_there(missed, slope, ratio):
    """The candidate takes `ratio` of those."""
    there = 40 * math.exp(missed / slope)
    runs = [seen(seed, there * ratio * (1 + seed / 1000), LEVEL - 0.05 + seed / 1000) for seed in range(3)]
    against = [seen(seed, 40, LEVEL + missed) for seed in range(3)]
    verdict = judge(runs, against, **RULES, slope=slope)
    assert ("seconds" in verdict.failed) == (ratio >= 1)
    assert f"misses the line by {missed:.4f}" in verdict.conditions[1].text
    plain = judge(runs, against, **RULES)  # of one that has passed the line seconds are what they are
    assert "misses" not in plain.conditions[1].text


def test_a_start_plan_that_passes_the_line_keeps_its_seconds():
    runs = [seen(seed, 30 + seed / 10, LEVEL - 0.05 + seed / 1000) for seed in range(3)]
    against = [seen(seed, 40, LEVEL - 0.001) for seed in range(3)]
    assert judge(runs, against, **RULES, slope=0.1) == judge(runs, against, **RULES)
