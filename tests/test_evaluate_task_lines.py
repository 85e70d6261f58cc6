"""What is known of tasks without a network: computed once, and what of it a record holds."""

import micro
import pytest

from harness.data import counted
from harness.data.task.copy import Copy
from harness.evaluate.task_lines import counted_lines, task_lines
from harness.plan.compose import compose

PLAN = compose(micro.TASKS).plan  # copying alone


@pytest.fixture(name="calls")
def calls_fixture(monkeypatch, tmp_path):
    """Which tasks are counted, in a cache of its own."""
    calls = []
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(counted, "lines", lambda name, keys: calls.append((name, keys.length)) or {"of": [name, keys.length]})
    return calls


def test_a_task_is_counted_once_for_its_keys_its_generator_and_how_it_is_counted(calls, monkeypatch):
    assert counted_lines(PLAN) == counted_lines(PLAN) == {"copy": {"of": ["copy", 2]}} and calls == [("copy", 2)]
    longer = compose([*micro.TASKS, "task.copy.length=3"]).plan
    assert counted_lines(longer) == {"copy": {"of": ["copy", 3]}} and len(calls) == 2
    for name in ("TRAINING", "TESTS", "METHOD"):
        monkeypatch.setattr(counted, name, getattr(counted, name) + 1)
        counted_lines(PLAN)
    assert len(calls) == 5
    real = Copy.draw
    monkeypatch.setattr(Copy, "draw", lambda self, draws, difficulty: real(self, draws, 1))
    counted_lines(PLAN)
    assert len(calls) == 6


def scores(nats, kl, whole):
    return {"nats": nats, "kl": kl, "accuracy": 0.5, "whole": whole}


def test_a_record_holds_shares_of_certain_answers_and_divergences_of_others():
    certain = [
        {"difficulty": d, "trained": d < 3, "chance": scores(4.0, None, 0.0), "bayes": scores(0.0, None, 1.0),
         "counted": [{"order": n, **scores(3.0, None, n / 10)} for n in (2, 3)]}
        for d in (1, 2, 4)
    ]  # fmt: skip
    judged = [row | {"counted": [], "bayes": scores(None, None, 1.0)} for row in certain]
    drawn = [
        {"difficulty": 8, "trained": True, "chance": scores(4.0, 3.5, 0.0), "bayes": scores(0.5, 0.0, 0.2),
         "counted": [{"order": 2, **scores(1.0, 0.5, 0.1)}]}
    ]  # fmt: skip
    found = task_lines({
        "copy": {"guess": 0.01, "rows": certain}, "brevo": {"guess": 0.02, "rows": judged},
        "ngram": {"guess": 0.0, "rows": drawn},
    })  # fmt: skip
    known = {(line["task"], line["name"]): (line["measure"], line["levels"]) for line in found}
    all_right = {"1": 1.0, "2": 1.0, "4": 1.0}
    assert known == {
        ("copy", "chance"): ("exact_match", {"2": 0.01}), ("copy", "Bayes optimum"): ("exact_match", all_right),
        ("copy", "2-gram"): ("exact_match", {"1": 0.2, "2": 0.2, "4": 0.2}),
        ("copy", "3-gram"): ("exact_match", {"1": 0.3, "2": 0.3, "4": 0.3}),
        ("brevo", "chance"): ("exact_match", {"2": 0.02}), ("brevo", "Bayes optimum"): ("exact_match", all_right),
        ("ngram", "chance"): ("kl", {"8": 3.5}), ("ngram", "Bayes optimum"): ("kl", {"8": 0.0}),
        ("ngram", "2-gram"): ("kl", {"8": 0.5}),
    }  # fmt: skip
