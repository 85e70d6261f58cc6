"""Spearman's rank correlation over runs of cases: its value, what its interval calls, and how seldom it calls what is not."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from harness.report import rank_correlation
from harness.report.rank_correlation import over_cases, spearman, within_cases


def runs(draws, *, cases=6, seeds=5, of_case=(0.0, 0.0), shared=0.0, together=0.0):
    """By case, (x, y) of its seeds. `of_case`: how far cases move x and y, by themselves; `together`: both at once; `shared`:
    how much x and y of a seed have in common."""
    found = []
    for _ in range(cases):
        common, dx, dy = draws.standard_normal(3)
        base = np.array([together * common + of_case[0] * dx, together * common + of_case[1] * dy])
        both = draws.standard_normal((seeds, 1))
        found.append([tuple(pair) for pair in (base + shared * both + draws.standard_normal((seeds, 2))).tolist()])
    return found


def test_it_is_spearmans_with_ties_at_their_mean_rank():
    draws = np.random.default_rng(1)
    x_RN, y_RN = draws.integers(5, size=(2, 20, 13)).astype(float)
    wanted = [spearmanr(x_N, y_N).statistic for x_N, y_N in zip(x_RN, y_RN)]
    assert spearman(x_RN, y_RN) == pytest.approx(wanted)


def test_what_is_planted_in_the_seeds_is_found_both_ways_and_always_alike():
    points = runs(np.random.default_rng(2), shared=4.0)
    for way in (over_cases, within_cases):
        found = way(points, 0.95)
        assert 0.7 < found.value < 1 and 0 < found.low < found.value < found.high <= 1
        assert (found.runs, found.cases, found.fewest) == (30, 6, 5)
        rank_correlation._correlation.cache_clear()
        assert way(points, 0.95) == found


def test_what_a_case_does_to_both_falls_out_within_cases():
    points = runs(np.random.default_rng(3), cases=8, together=8.0)
    assert over_cases(points, 0.95).low > 0
    within = within_cases(points, 0.95)
    assert within.low < 0 < within.high and abs(within.value) < 0.4


@pytest.mark.parametrize(
    "way, words", [(within_cases, {"together": 3.0}), (over_cases, {"of_case": (3.0, 3.0)}), (over_cases, {})]
)
def test_what_is_not_there_is_seldom_called(monkeypatch, way, words):
    """200 times, of which a 95% interval may miss 10. Where two things differ from case to case, each by itself, six cases
    are six things and not thirty."""
    monkeypatch.setattr(rank_correlation, "RESAMPLES", 500)
    rank_correlation._correlation.cache_clear()
    draws = np.random.default_rng(4)
    found = [way(runs(draws, **words), 0.95) for _ in range(200)]
    assert sum(one.low > 0 or one.high < 0 for one in found) <= 24


def test_where_nothing_varies_or_runs_are_too_few_there_is_no_correlation():
    flat = [[(float(seed), 0.1) for seed in range(4)] for _ in range(3)]
    assert over_cases(flat, 0.95) is within_cases(flat, 0.95) is None
    assert over_cases([[(1.0, 2.0), (2.0, 1.0)]], 0.95) is None
    ones = [[(float(case), float(case))] for case in range(5)]
    assert over_cases(ones, 0.95).value == pytest.approx(1) and within_cases(ones, 0.95) is None
    figures = (0.1, 0.2, 0.5, 0.7)
    by_case = [[pair] * 3 for pair in zip(figures, figures[::-1])]
    assert within_cases(by_case, 0.95) is None, "0.1 less the mean of three 0.1 is rounding"


def test_a_case_without_runs_and_cases_of_other_sizes_are_taken_as_they_are():
    draws = np.random.default_rng(5)
    points = [*runs(draws, shared=3.0), [], *runs(draws, cases=2, seeds=2, shared=3.0), [(0.0, 0.0)]]
    over, within = over_cases(points, 0.95), within_cases(points, 0.95)
    assert (over.runs, over.cases, over.fewest) == (35, 9, 1) and (within.runs, within.cases, within.fewest) == (34, 8, 2)
