"""The law of a family: isoFLOP parabolas, the joint form, and their intervals, on points whose law is known."""

import math
import random
from dataclasses import replace

import law_factory as of
import numpy as np
import pytest
import study_factory
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.optimize import differential_evolution

from harness.errors import UserError
from harness.report.series.answers import NoAnswer, interval
from harness.report.series.bootstrap import bootstrap, resampled
from harness.report.series.family import family_of
from harness.report.series.isoflop import Growth, Valley, growth, valley, valleys
from harness.report.series.joint import DELTA, Law, fit
from harness.report.series.points import CONVENTIONS, Point, point_of
from harness.report.series.valley_spread import valley_spread


def parabola(n: float, budget: float, at: float, curvature: float = 0.5) -> Point:
    """A run whose bits are 2 at `at` parameters and a parabola of log10 N about it."""
    bpb = 2 + curvature * math.log10(n / at) ** 2
    tokens = round(budget / (6 * n))
    return Point("dense", round(n), budget, 1, bpb, budget, tokens, None, {name: round(n) for name in CONVENTIONS})


def test_a_run_becomes_a_point_counted_in_four_ways(tmp_path):
    trial = study_factory.trial(tmp_path, "moe", seed=3)
    trial.plan["model"] |= {"width": 256, "norm_weight": False}
    it, counts = point_of(trial, "moe", 256, 1e13), trial.record.counts
    assert set(it.params) == set(CONVENTIONS)
    assert it.params["total"] == counts.params_total and it.params["active"] == counts.params_active
    assert it.params["matrices+head"] == counts.params_active - 256 * 256
    assert it.params["matrices"] == counts.params_active - 2 * 256 * 256
    assert (it.seed, it.bpb, it.tokens) == (3, trial.record.metrics.val_bpb, trial.record.metrics.tokens)
    assert it.flops == it.tokens * counts.flops_per_token and it.flops_per_token == counts.flops_per_token
    assert it.seconds == trial.record.clock.train_s
    trial.plan["model"]["norm_weight"] = True
    assert point_of(trial, "moe", 256, 1e13).params["matrices"] == it.params["matrices"] - 256 * (2 * 4 + 1)


def test_a_disturbed_run_has_no_seconds_and_a_stopped_one_is_no_point(tmp_path):
    trial = study_factory.trial(tmp_path / "busy", "moe", taken=0.4)
    trial.plan["model"] |= {"width": 256, "norm_weight": False}
    assert point_of(trial, "moe", 256, 1e13).seconds is None
    with pytest.raises(UserError, match="has not finished"):
        point_of(study_factory.trial(tmp_path / "sick", "moe", stopped=200), "moe", 256, 1e13)


def test_a_parabola_is_found_where_it_was_put():
    sizes = np.geomspace(1e5, 3e6, 5)
    found = valley([parabola(n, 1e13, at=4e5) for n in sizes], "matrices")
    assert isinstance(found, Valley)
    assert found.n == pytest.approx(4e5, rel=1e-4) and found.bpb == pytest.approx(2) and found.curvature == pytest.approx(0.5)
    assert found.d == pytest.approx(1e13 / 6 / 4e5, rel=1e-3) and found.ratio == pytest.approx(found.d / found.n)
    assert found.at(4e6) == pytest.approx(2.5, rel=1e-3)


@pytest.mark.parametrize(
    "sizes, at, curvature, why",
    [
        (np.geomspace(1e5, 1e6, 3), 3e5, 0.5, "3 sizes"),
        (np.geomspace(1e5, 1e6, 4), 3e5, -0.5, "not convex"),
        (np.geomspace(1e5, 1e6, 4), 9e4, 0.5, "beyond the smallest size (100,000"),
        (np.geomspace(1e5, 1e6, 4), 2e6, 0.5, "beyond the largest size (1,000,000"),
    ],
    ids=["three sizes", "concave", "left of the grid", "right of the grid"],
)
def test_what_is_no_valley_says_why(sizes, at, curvature, why):
    found = valley([parabola(n, 1e13, at, curvature) for n in sizes], "matrices")
    assert isinstance(found, NoAnswer)
    assert why in found.why


def test_seeds_of_a_size_are_no_further_sizes():
    runs = [replace(parabola(n, 1e13, 3e5), seed=seed) for n in np.geomspace(1e5, 1e6, 3) for seed in (1, 2, 3)]
    assert isinstance(valley(runs, "matrices"), NoAnswer)


def test_exponents_over_three_budgets_are_those_that_the_minima_were_put_at():
    budgets, sizes = (1e13, 3e13, 1e14), np.geomspace(1e5, 1e7, 7)
    runs = [parabola(n, c, at=4e5 * (c / 1e13) ** 0.55) for c in budgets for n in sizes]
    found = growth(list(valleys(runs, "matrices").values()))
    assert isinstance(found, Growth)
    assert found.a == pytest.approx(0.55, abs=1e-3) and found.b == pytest.approx(0.45, abs=1e-3)
    assert found.miss < 1e-3 and found.budgets == budgets
    assert found.ratio == pytest.approx(found.ratios[1], rel=0.02)


def test_two_budgets_have_an_exponent_without_a_residual_and_one_has_none():
    runs = [parabola(n, c, at=4e5 * (c / 1e13) ** 0.55) for c in (1e13, 1e14) for n in np.geomspace(1e5, 1e7, 5)]
    found = growth(list(valleys(runs, "matrices").values()))
    assert found.miss is None and "goes through both" in found.text
    alone = growth(list(valleys(runs[:5], "matrices").values()))
    assert isinstance(alone, NoAnswer) and "1 of 1 budgets" in alone.why


@settings(max_examples=15, deadline=None)
@given(
    a=some.floats(0.2, 0.7), b=some.floats(0.2, 0.7), e=some.floats(0.3, 1.2), n_term=some.floats(0.2, 1),
    d_term=some.floats(0.2, 1),
)  # fmt: skip
def test_a_law_without_noise_is_found_again(a, b, e, n_term, d_term):
    law = Law("dense", "matrices", e, n_term * 6e5**a, a, d_term * 8e6**b, b)
    found = fit(of.points(law, seeds=1), "matrices").law
    assert found.a == pytest.approx(a, rel=0.02) and found.b == pytest.approx(b, rel=0.02)
    assert found.E == pytest.approx(e, rel=0.05)


def test_an_independent_optimizer_finds_no_better_law():
    runs = of.points(noise=0.003)
    n, d = np.array([run.params["matrices"] for run in runs]), np.array([run.tokens for run in runs])
    measured = np.log([run.bpb for run in runs])

    def loss(bpb: np.ndarray) -> float:
        z = np.abs(np.log(bpb) - measured) / DELTA
        return float(np.where(z <= 1, z**2 / 2, z - 0.5).sum())

    def of_logs(p: np.ndarray) -> float:
        e, n_term, d_term, a, b = np.exp(p)
        return loss(e + n_term * (n / 6e5) ** -a + d_term * (d / 8e6) ** -b)

    bounds = [(-3.0, 0.7), (-3.0, 1.0), (-3.0, 1.0), (-3.0, 0.5), (-3.0, 0.5)]
    other = differential_evolution(of_logs, bounds, rng=1, popsize=12, maxiter=150, tol=1e-10, polish=True)
    assert loss(fit(runs, "matrices").law.bpb(n, d)) <= other.fun * 1.001


@pytest.mark.parametrize("sizes, budgets, said", [(4, 1, "has 4 "), (5, 1, "has 5 "), (2, 3, "takes 3 sizes, found 2")])
def test_a_law_of_too_few_points_is_refused_with_how_many_there_are(sizes, budgets, said):
    with pytest.raises(UserError, match=said) as caught:
        fit(of.points(sizes=of.SIZES[:sizes], budgets=of.BUDGETS[:budgets], seeds=5), "matrices")
    assert "make series" in caught.value.remedy


def test_what_the_points_do_not_resolve_is_said():
    flat = fit(of.points(replace(of.DENSE, E=1e-9)), "matrices")
    assert "E" in flat.unresolved and fit(of.points(), "matrices").unresolved == ()


def test_residuals_are_of_the_log_and_their_spread_is_the_noise():
    runs = of.points(noise=0.004, seeds=6)
    found = fit(runs, "matrices")
    for run, residual in zip(found.points, found.residuals):
        fitted = found.law.bpb(run.params["matrices"], run.tokens)
        assert residual == pytest.approx(math.log(run.bpb / fitted), abs=1e-12)
    assert 0.003 < found.spread < 0.005


def test_the_same_points_in_any_order_give_the_same_numbers():
    runs = of.points(noise=0.003, sizes=of.SIZES[:4])
    shuffled = random.Random(0).sample(runs, len(runs))
    one, other = bootstrap(runs, "matrices", 12), bootstrap(shuffled, "matrices", 12)
    assert one.fit == other.fit and [it.law for it in one.drawn] == [it.law for it in other.drawn]
    assert valley_spread(runs, "matrices", 12) == valley_spread(shuffled, "matrices", 12)
    assert resampled(runs, 5) == resampled(shuffled, 5) != resampled([replace(run, family="moe") for run in runs], 5)


def test_intervals_of_a_noisy_grid_hold_the_law_that_made_it():
    found = bootstrap(of.points(noise=0.002), "matrices", 60)
    assert found.failed == 0
    for name, truth in {"E": 0.9, "a": 0.34, "b": 0.42, "n_exponent": 0.42 / 0.76}.items():
        it = found.figures[name]
        assert it.low < it.value < it.high and it.holds(truth), (name, it.text())


def test_intervals_hold_the_truth_at_about_the_stated_rate():
    """Eight noisy grids, four figures each: 95% stated, and few resamples of few points give a little less."""
    truth = {"E": 0.9, "a": 0.34, "b": 0.42, "n_exponent": 0.42 / 0.76}
    held = []
    for i in range(8):
        figures = bootstrap(of.points(noise=0.003, sizes=of.SIZES[:4], random=100 + i), "matrices", 30).figures
        held += [figures[name].holds(value) for name, value in truth.items()]
    assert np.mean(held) > 0.85


def test_valleys_hold_the_truth_at_about_the_stated_rate():
    """Of 95%, quantiles of 100 resamples leave about 93%. Residuals that were not widened would hold less than two thirds."""
    sizes, held = np.geomspace(1e5, 3e6, 4), []
    for i in range(40):
        noise = np.random.default_rng(i).normal(0, 0.003, (3, 4))
        runs = [
            replace(run, bpb=run.bpb + noise[j, k])
            for j, c in enumerate(of.BUDGETS)
            for k, run in enumerate(parabola(n, c, at=4e5 * (c / 1e13) ** 0.3) for n in sizes)
        ]
        found = valley_spread(runs, "matrices", 100)
        held += [found.a.holds(0.3), found.n[3e13].holds(4e5 * 3**0.3)]
    assert np.mean(held) > 0.85


def test_seeds_that_differ_widen_valleys_though_their_means_lie_on_a_parabola():
    """Seeds of the smallest size lie 0.04 above and below the parabola, so that no mean has a residual."""
    sizes = np.geomspace(1e5, 3e6, 4)
    runs = [
        replace(parabola(n, c, at=4e5 * (c / 1e13) ** 0.3), seed=seed)
        for c in of.BUDGETS for n in sizes for seed in (1, 2, 3)
    ]  # fmt: skip
    apart = [replace(run, bpb=run.bpb + 0.04 * (run.seed - 2)) if run.size == round(sizes[0]) else run for run in runs]
    calm, wide = (valley_spread(some, "matrices", 100) for some in (runs, apart))
    small, (one, other) = of.BUDGETS[0], (wide.n, calm.n)
    assert one[small].value == pytest.approx(other[small].value)
    assert one[small].high / one[small].low > 1.1 > other[small].high / other[small].low
    assert wide.a.high - wide.a.low > 0.05 > calm.a.high - calm.a.low


def test_valleys_of_sizes_with_unlike_noise_hold_the_truth():
    """The ends are noisier, as a model is that is too large or too small for its budget. Residuals alone hold less."""
    sizes, held = np.geomspace(1e5, 3e6, 4), []
    for i in range(30):
        noise = np.random.default_rng(i).normal(0, 1, (3, 4, 3)) * np.array([0.01, 0.001, 0.001, 0.01])[:, None]
        runs = [
            replace(run, bpb=run.bpb + noise[j, k, seed], seed=seed)
            for j, c in enumerate(of.BUDGETS)
            for k, run in enumerate(parabola(n, c, at=4e5 * (c / 1e13) ** 0.3) for n in sizes)
            for seed in range(3)
        ]
        found = valley_spread(runs, "matrices", 100)
        held += [found.a.holds(0.3), found.n[3e13].holds(4e5 * 3**0.3)]
    assert np.mean(held) > 0.75


def test_resamples_that_carry_no_law_are_counted_and_withhold_the_interval():
    found = bootstrap(of.points(sizes=of.SIZES[:3], budgets=of.BUDGETS[:2], noise=0.001), "matrices", 20)
    assert found.failed > 10 and not found.figures["a"].known
    assert f"{found.failed} of 20 resamples" in found.figures["a"].text()


def test_every_budget_is_in_every_resample_and_seeds_are_drawn_within_their_place():
    runs = of.points(seeds=3)
    for drawn in resampled(runs, 20):
        assert len(drawn) == len(runs) and {run.budget for run in drawn} == set(of.BUDGETS)
    assert len({run.seed for run in resampled(runs, 1)[0]}) == 3


def test_intervals_widen_with_noise():
    widths = []
    for noise in (0.001, 0.004):
        it = bootstrap(of.points(noise=noise), "matrices", 30).figures["a"]
        widths.append(it.high - it.low)
    assert widths[1] > 2 * widths[0]


def test_valleys_have_intervals_and_so_has_their_growth():
    found = valley_spread(of.points(noise=0.001), "matrices", 200)
    assert set(found.n) == set(of.BUDGETS) == set(found.bpb)
    for budget in of.BUDGETS:
        assert found.n[budget].low < found.valleys[budget].n < found.n[budget].high
    assert found.a.holds(0.42 / 0.76) and found.a.high - found.a.low < 0.3
    assert found.a.value == found.growth.a


def test_an_interval_counts_what_failed_and_is_withheld_where_much_did():
    some_failed = interval(1.0, [0.9, 1.0, 1.1, None, 1.05])
    assert some_failed.known and "1 of 5 resamples failed" in some_failed.text()
    most_failed = interval(1.0, [0.9, None, None])
    assert not most_failed.known and "2 of 3" in most_failed.text() and most_failed.holds(7.0)


def test_a_family_has_one_number_of_parameters_a_size():
    runs = of.points()
    odd = [replace(runs[0], params={**runs[0].params, "matrices": 1}), *runs[1:]]
    with pytest.raises(UserError, match="have not the same parameters"):
        family_of(odd, "matrices")
    same = [replace(run, params={**run.params, "total": 7}) for run in runs]
    with pytest.raises(UserError, match="as many"):
        family_of(same, "total")


def test_flops_between_sizes_are_a_straight_line_of_the_logs():
    family = family_of(of.points(per_token=lambda n: 6 * n + 1000 * n**0.5), "matrices")
    low, high = of.SIZES[1:3]
    middle = (family.flops(low) * family.flops(high)) ** 0.5
    assert family.flops((low * high) ** 0.5) == pytest.approx(middle)
    assert family.flops(low) == pytest.approx(6 * low + 1000 * low**0.5)
