"""What a series says of all its families together, and its Markdown."""

from dataclasses import replace

import law_factory as of
import pytest

from harness.report.series.answers import Interval, NoAnswer, left_out
from harness.report.series.bootstrap import Bootstrap
from harness.report.series.frontier import CONTRACTS
from harness.report.series.law_table import law_lines
from harness.report.series.laws import Laws, laws_of
from harness.report.series.points import CONVENTIONS


def both(**words) -> list:
    return of.points(noise=0.001, **words) + of.points(of.cheaper(2.0), noise=0.001, random=2, **words)


@pytest.fixture(scope="module")
def laws() -> Laws:
    return laws_of(both(), ("dense", "moe"), count=20)


def test_every_family_has_its_valleys_by_convention_and_its_law(laws):
    assert list(laws.joint) == list(laws.valleys) == ["dense", "moe"]
    assert all(set(by_convention) == set(CONVENTIONS) for by_convention in laws.valleys.values())
    assert all(isinstance(it, Bootstrap) for it in laws.joint.values())


def test_the_first_family_is_the_base_of_the_others_under_every_contract(laws):
    assert [(it.base, it.other, it.contract) for it in laws.worths] == [("dense", "moe", name) for name in CONTRACTS]
    turned = laws_of(both(), ("moe", "dense"), count=5)
    assert turned.worths[0].multiplier.value == pytest.approx(0.5, rel=0.05)


def test_a_family_without_enough_points_is_said_and_the_others_stand():
    points = of.points() + of.points(of.cheaper(2.0), budgets=of.BUDGETS[:1])
    found = laws_of(points, ("dense", "moe", "absent"), count=5)
    assert isinstance(found.joint["dense"], Bootstrap) and isinstance(found.joint["moe"], NoAnswer)
    assert "absent" not in found.joint and found.worths == ()
    lines = "\n".join(law_lines(found))
    assert "fewer points than parameters: moe has 5" in lines and "is not said: no law of moe" in lines


def test_a_table_has_a_row_for_every_budget_convention_and_law_and_a_sentence_a_contract(laws):
    lines = law_lines(laws)
    assert sum(line.startswith("| dense |") for line in lines) == len(of.BUDGETS) + len(CONVENTIONS) + 1
    for terms in CONTRACTS.values():
        assert sum(line.startswith(terms.name.replace("at", "At", 1)) for line in lines) == 1
    tables = [
        [line.count("|") for line in block.splitlines()] for block in "\n".join(lines).split("\n\n") if "| --- |" in block
    ]
    assert len(tables) == 3 and all(len(set(counts)) == 1 for counts in tables)


def test_tokens_per_parameter_change_where_the_points_resolve_it_and_may_not_where_they_do_not(laws):
    """N* ~ C^.55 and D* ~ C^.45 in both; only much noise hides that."""
    said = [line for line in law_lines(laws) if line.startswith("Tokens per parameter of dense")]
    assert len(said) == 1 and "change with the budget however they are counted" in said[0]
    noisy = law_lines(laws_of(of.points(noise=0.008, random=4), ("dense",), count=20))
    assert any("may be the same at every budget by matrices" in line for line in noisy)


def test_a_minimum_at_the_edge_says_so_in_its_row():
    points = both(sizes=(*of.SIZES[2:], 4_800_000))
    lines = law_lines(laws_of(points, ("dense",), count=5))
    assert any("none: the minimum is at or beyond the smallest size" in line for line in lines)
    assert any("there is one family" in line for line in lines)


def test_resamples_without_an_answer_are_told_once_a_table():
    failing = Interval(1.0, 0.9, 1.1, 300, 2)
    assert failing.short("{:.1f}") == "1.0 (0.9 to 1.1)" and "2 of 300 resamples failed" in failing.text()
    assert left_out({"dense": [replace(failing, failed=0)], "moe": []}) == ""
    withheld = Interval(1.0, None, None, 300, 200)
    assert "200 of 300" in withheld.short() and left_out({"dense": [withheld]}) == "", "it says so itself"
    said = left_out({"dense": [failing, replace(failing, failed=5)], "moe": [replace(failing, failed=17)]})
    assert said == "Intervals leave out resamples without an answer, of 300 at most 5 of dense, 17 of moe."
    few = "\n".join(law_lines(laws_of(both(sizes=of.SIZES[:4]), ("dense", "moe"), count=20)))
    assert "resamples failed" not in few


def test_both_ways_to_an_exponent_stand_beside_each_other(laws):
    lines = law_lines(laws)
    for name in ("dense", "moe"):
        assert (
            sum(f"of {name} grows as" in line and "by the parabolas" in line and "by the joint law" in line for line in lines)
            == 1
        )
