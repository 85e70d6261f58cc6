"""What a family is worth against another: laws whose answers are known in closed form, and what is beyond the points."""

import math
from dataclasses import replace

import law_factory as of
import pytest

from harness.errors import UserError
from harness.report.series import contracts, predict
from harness.report.series.answers import Interval, NoAnswer
from harness.report.series.bootstrap import Bootstrap, bootstrap
from harness.report.series.family import family_of
from harness.report.series.frontier import CONTRACTS, Frontier
from harness.report.series.joint import Law

EVEN = Law("dense", "matrices", E=0.9, A=60.0, a=0.4, B=240.0, b=0.4)  # equal exponents: tied contracts in closed form
FEW = 40  # resamples


def boot(law: Law, count: int = FEW, **words) -> Bootstrap:
    return bootstrap(of.points(law, **words), "matrices", count)


@pytest.fixture(scope="module")
def dense() -> Bootstrap:
    return boot(of.DENSE, noise=0.001)


def optimum(law: Law, budget: float) -> tuple[float, float]:
    """N* and bpb* where FLOPs are 6 N D (Hoffmann et al. 2022, equation 4)."""
    ratio = (law.a * law.A / (law.b * law.B)) ** (1 / (law.a + law.b))
    n = ratio * (budget / 6) ** (law.b / (law.a + law.b))
    return n, float(law.bpb(n, budget / 6 / n))


@pytest.mark.parametrize("budget", of.BUDGETS)
def test_the_optimum_of_a_budget_is_the_one_in_closed_form(budget):
    frontier = Frontier(family_of(of.points(), "matrices"), of.DENSE, CONTRACTS["flops"])
    found, (n, bpb) = frontier.at_cost(budget), optimum(of.DENSE, budget)
    assert found.outside is None
    assert found.n == pytest.approx(n, rel=1e-3) and found.bpb == pytest.approx(bpb, rel=1e-7)
    back = frontier.at_level(bpb)
    assert back.cost == pytest.approx(budget, rel=1e-5) and back.n == pytest.approx(n, rel=1e-3)


def test_two_families_of_one_law_are_worth_the_same(dense):
    other = boot(replace(of.DENSE, family="moe"), noise=0.001, random=2)
    it = contracts.worth(dense, other, "flops")
    assert it.multiplier.low < 1 < it.multiplier.high
    assert "no difference that the points resolve" in contracts.sentence(it)


def test_a_family_that_needs_half_the_compute_is_worth_two(dense):
    it = contracts.worth(dense, boot(of.cheaper(2.0), noise=0.001, random=2), "flops")
    assert it.multiplier.holds(2.0) and it.multiplier.low > 1.5 and it.multiplier.high < 2.6
    assert it.flips == () and [gap.ahead for gap in it.gaps] == [1, 1, 1]
    said = contracts.sentence(it)
    assert "moe is worth 2." in said or "moe is worth 1.9" in said
    assert "fewer" in said and "does not flip" in said


def test_without_noise_the_multiplier_is_exact_at_every_level():
    base, other = boot(of.DENSE, 3), boot(of.cheaper(1.7), 3)
    for budget in (2.5e13, 3e13, 8e13):
        it = contracts.worth(base, other, "flops", bpb=optimum(of.DENSE, budget)[1])
        assert it.multiplier.value == pytest.approx(1.7, rel=0.01)


@pytest.mark.parametrize("stored", [1.5, 4.0])
def test_tokens_per_total_parameter_in_closed_form(stored):
    """N^-a (A + B r^-a) = L - E at a = b, so a family that stores more takes more tokens at a smaller size."""
    base, other = boot(EVEN, 3), boot(replace(EVEN, family="moe"), 3, total=stored)
    it = contracts.worth(base, other, "totalDN")
    one, two = (EVEN.A + EVEN.B * (it.ratio * share) ** -EVEN.a for share in (1, stored))
    assert it.multiplier.value == pytest.approx((one / two) ** (2 / EVEN.a) / stored, rel=0.003)
    assert contracts.worth(base, other, "activeDN").multiplier.value == pytest.approx(1.0, rel=0.01)


def test_equal_seconds_are_worth_what_a_token_takes(dense):
    base = boot(of.DENSE, 3, seconds=lambda n: 1e-12 * 6 * n)
    other = boot(of.cheaper(2.0), 3, seconds=lambda n: 3e-12 * 6 * n)
    it = contracts.worth(base, other, "seconds")
    assert it.multiplier.value == pytest.approx(2 / 3, rel=0.01) and it.unit == "seconds"
    assert "more to get there" in contracts.sentence(it)
    assert it.gaps[1].cost == pytest.approx(30.0, rel=0.01)
    untimed = contracts.worth(dense, other, "seconds")
    assert isinstance(untimed.multiplier, NoAnswer) and "dense" in untimed.multiplier.why
    assert "no answer" in contracts.sentence(untimed)


def test_seconds_that_differ_between_runs_widen_the_interval():
    def timed(spread: float, family: str) -> Bootstrap:
        runs = of.points(replace(of.DENSE, family=family), seconds=lambda n: 6e-12 * n, noise=0.001)
        wave = [replace(run, seconds=run.seconds * math.exp(spread * math.sin(7 * i))) for i, run in enumerate(runs)]
        return bootstrap(wave, "matrices", FEW)

    calm, wild = (contracts.worth(timed(s, "dense"), timed(s, "moe"), "seconds").multiplier for s in (0.0, 0.3))
    assert wild.high - wild.low > 2 * (calm.high - calm.low) > 0


@pytest.mark.parametrize("factor, said", [(30.0, "less than its smallest budget"), (1 / 30, "more than its largest budget")])
def test_nothing_is_said_beyond_the_budgets(factor, said):
    sizes = (18_750, 37_500, 75_000, *of.SIZES, 4_800_000, 9_600_000)
    base, other = boot(of.DENSE, 3), boot(of.cheaper(factor), 3, sizes=sizes)
    it = contracts.worth(base, other, "flops")
    assert isinstance(it.multiplier, NoAnswer) and said in it.multiplier.why
    assert "outside the points" in contracts.sentence(it)


def test_a_best_size_at_the_edge_of_the_sizes_is_no_optimum():
    base, other = boot(of.DENSE, 3), boot(replace(of.DENSE, family="moe"), 3, sizes=of.SIZES[2:])
    it = contracts.worth(base, other, "flops", bpb=optimum(of.DENSE, 1.2e13)[1])
    assert isinstance(it.multiplier, NoAnswer) and "smallest" in it.multiplier.why


def test_a_level_that_no_size_reaches_is_said():
    base = boot(of.DENSE, 3)
    it = contracts.worth(base, boot(replace(of.DENSE, family="moe"), 3), "flops", bpb=0.5)
    assert "at none of its sizes" in it.multiplier.why


def test_a_ranking_that_flips_is_found_where_the_laws_cross():
    """Another floor and a steeper start: worse with little compute, better with much."""
    late = Law("moe", "matrices", E=0.6, A=of.DENSE.A * 1.26, a=of.DENSE.a, B=of.DENSE.B * 1.26, b=of.DENSE.b)
    base, other = boot(of.DENSE, noise=0.0005), boot(late, noise=0.0005, random=2)
    it = contracts.worth(base, other, "flops")
    low, high = of.BUDGETS[0], of.BUDGETS[-1]
    signs = [optimum(late, c)[1] - optimum(of.DENSE, c)[1] for c in (low, high)]
    assert signs[0] > 0 > signs[1], signs
    while high / low > 1.0001:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if optimum(late, middle)[1] > optimum(of.DENSE, middle)[1] else (low, middle)
    assert len(it.flips) == 1 and it.flips[0] == pytest.approx(low, rel=0.15)
    assert "The ranking flips within the points" in contracts.sentence(it)


def test_levels_are_the_optimum_of_the_base_at_each_budget(dense):
    found = contracts.levels(boot(of.DENSE, 3))
    assert found == pytest.approx({budget: optimum(of.DENSE, budget)[1] for budget in of.BUDGETS}, rel=1e-5)


def test_every_contract_has_its_sentence(dense):
    other = boot(of.cheaper(2.0), noise=0.001, random=2, total=1.3)
    for name, terms in CONTRACTS.items():
        said = contracts.sentence(contracts.worth(dense, other, name))
        assert said.startswith(terms.name.replace("at", "At", 1)) and said.endswith("."), said


def held_out(noise: float, law: Law = of.DENSE):
    runs = of.points(law, noise=noise, budgets=(3e12, 1e13, 3e13, 1e14))
    largest = [run for run in runs if run.budget == 1e14 and run.size == 1200]
    return runs, largest, predict.predict(runs, "dense", 1200, 1e14, largest[0].tokens, "matrices", count=FEW)


def test_a_held_out_run_is_predicted_without_being_seen_and_judged_inside():
    runs, largest, made = held_out(0.002)
    below = [run for run in runs if run.budget < 1e14]
    assert made == predict.predict(below, "dense", 1200, 1e14, largest[0].tokens, "matrices", count=FEW)
    assert made.fitted == len(below) and made.bpb.low < made.bpb.value < made.bpb.high
    verdict = predict.judge(made, runs)
    assert verdict.inside and verdict.runs == 2 and abs(verdict.error) < 0.01
    assert "inside its interval" in predict.sentence(verdict) and "naive" in predict.sentence(verdict)
    assert "Predicted of dense at size 1200" in predict.sentence(made)


def test_a_run_that_the_law_did_not_foresee_is_judged_outside_by_how_much():
    _, largest, made = held_out(0.001)
    verdict = predict.judge(made, [replace(run, bpb=made.bpb.high + 0.25) for run in largest])
    assert not verdict.inside and verdict.beyond == pytest.approx(0.25)
    assert "outside its interval" in predict.sentence(verdict) and "by 0.2500" in predict.sentence(verdict)


def test_the_interval_of_a_run_is_wider_than_that_of_the_law():
    runs, largest, made = held_out(0.003)
    law = bootstrap([run for run in runs if run.budget < 1e14], "matrices", FEW)
    of_law = law.interval(lambda it: float(it.bpb(1_200_000, largest[0].tokens)))
    assert made.bpb.high - made.bpb.low > of_law.high - of_law.low


def test_the_naive_line_is_a_power_law_through_the_last_two_budgets():
    law = Law("dense", "matrices", E=1e-12, A=1e-12, a=0.3, B=30.0, b=0.2)  # the smallest size is best: tokens alone count
    runs = of.points(law)
    expected = law.bpb(of.SIZES[0], 1e15 / 6 / of.SIZES[0])
    assert predict.naive(runs, 1e15) == pytest.approx(expected, rel=1e-4)
    assert predict.naive(of.points(budgets=(1e13,)), 1e14) is None


def test_what_cannot_be_predicted_or_judged_says_why():
    runs, _, made = held_out(0.001)
    with pytest.raises(UserError, match="has size 7"):
        predict.predict(runs, "dense", 7, 1e14, 10**7, "matrices")
    with pytest.raises(UserError, match="fewer points than parameters"):
        predict.predict(runs, "dense", 1200, 1e13, 10**7, "matrices")
    with pytest.raises(UserError, match="is not run"):
        predict.judge(made, [run for run in runs if run.budget < 1e14])


def test_a_prediction_without_an_interval_is_neither_inside_nor_outside():
    _, largest, made = held_out(0.001)
    bare = replace(made, bpb=Interval(made.bpb.value, None, None, 300, 200))
    verdict = predict.judge(bare, largest)
    assert verdict.inside is None and "no interval" in predict.sentence(verdict)
