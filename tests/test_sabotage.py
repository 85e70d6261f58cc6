"""The gate against faults put in from outside: a shortened `make sabotage`, and what the faults leave alone."""

import pytest

from harness.report.gate.verdict import FAIL, PASS, Outcome
from tests.sabotage.__main__ import BEGIN, END, disturbed, main, markdown, missed
from tests.sabotage.bench import Case
from tests.sabotage.faults import FAULTS, NONE


def a_case(fault, *failing, seed=1):
    outcomes = [Outcome(name, FAIL if name in failing else PASS, "", "", ("why",)) for name in ("exact bits", "speed")]
    return Case(fault, seed, tuple(outcomes))


@pytest.mark.slow
def test_three_faults_are_caught_and_two_clean_reruns_pass(capsys):
    """Shortened: 32 steps, nothing timed. Whole: make sabotage."""
    words = ["faults=balancing,bytes,memory", "seeds=3", "clean=2", "jobs=2", "timing=off"]
    status = main([*words, "budget.tokens=8192", "validation.steps=[16]"])
    said, why = capsys.readouterr()
    assert status == 0, said + why
    assert "| validation bytes miscounted by 1% | exact bits, record | yes |" in said
    assert "| 30% more memory | peak memory | yes |" in said and "| balancing off | exact bits" in said
    assert "2 of 2 pass." in said


def test_the_table_says_what_was_missed_and_what_only_bits_show():
    cases = [a_case("slow", "speed"), a_case("batch", "exact bits"), a_case("memory"), a_case(NONE, "speed", seed=12)]
    lines = markdown([*cases, a_case(NONE, seed=13)], "cpu", 10).splitlines()
    assert lines[0] == BEGIN and lines[-1] == END
    assert "| steps 25% slower | speed | yes |" in lines
    assert "| one batch repeated | exact bits | no: only equal bits show it |" in lines
    assert "| 30% more memory | **missed** | - |" in lines
    assert "1 of 2 pass (seed 12 failed by speed)" in lines[-2]
    assert missed(cases) == [cases[2]] and disturbed(cases) == [cases[3]]


def test_there_are_eight_faults_with_names_of_their_own():
    assert len(FAULTS) == 8 and NONE not in FAULTS and len({said for said, _ in FAULTS.values()}) == 8


@pytest.mark.parametrize(
    "word, said",
    [
        ("faults=memry", "did you mean memory?"),
        ("seeds=2", "at least 3"),
        ("clean=-1", "whole number"),
        ("jobs=0", "at least 1"),
        ("timing=later", "timing=on or timing=off"),
        ("lane=tiny-mo-16e", "did you mean tiny-moe-16e?"),
    ],
)
def test_a_wrong_word_is_explained_before_anything_runs(word, said, capsys):
    assert main([word]) == 2
    assert said in capsys.readouterr().err
