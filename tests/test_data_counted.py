"""Counted n-grams against a slow model of dictionaries, and what `lines` says of each task."""

import json
from collections import Counter, defaultdict
from math import factorial, log

import numpy as np
import pytest
from task_cases import NAMES, instances, made, tokens_of

from harness.data import counted
from harness.plan import parts


def slow(train, longest):
    """{(mark, context): counts of the answers after it}; a context stops at the mark."""
    followers = defaultdict(Counter)
    for one in train:
        tokens = tokens_of(one)
        for at in np.flatnonzero(one.answer_N):
            for back in range(min(at, longest) + 1):
                followers[tokens[0], tuple(tokens[at - back : at])][tokens[at]] += 1
    return followers


def slow_probability(followers, mark, context, token, size):
    shorter = slow_probability(followers, mark, context[1:], token, size) if context else 1 / size
    counts = followers.get((mark, context))
    if not counts:
        return shorter
    return (counts[token] + len(counts) * shorter) / (counts.total() + len(counts))


@pytest.mark.parametrize("name, words", [
    ("lano", "depth=3 symbols=2 degree=2"), ("ngram", "symbols=8 steps=8"), ("polysemy", "symbols=8 steps=4"), ("depo", ""),
])  # fmt: skip
def test_distributions_equal_a_slow_dictionary_model(name, words):
    task = made(name, words)
    train, test = instances(task, 60), instances(task, 6, None, True)
    of_train, of_test = counted.answers(train), counted.answers(test)
    ever = np.union1d(of_train.answer_M, of_test.answer_M)
    found = {order: probability.copy() for order, probability in counted.distributions(of_train, of_test, ever)}
    assert list(found) == list(range(2, 11))
    for order, probability_MA in found.items():
        followers, row = slow(train, order - 1), 0
        for one in test:
            tokens = tokens_of(one)
            for at in np.flatnonzero(one.answer_N):
                context = tuple(tokens[max(0, at - order + 1) : at])
                expected = [slow_probability(followers, tokens[0], context, token, len(ever)) for token in ever]
                np.testing.assert_allclose(probability_MA[row], expected, rtol=1e-9)
                row += 1
        assert row == len(probability_MA)
        np.testing.assert_allclose(probability_MA.sum(1), 1)


def test_scores_are_those_of_a_hand_made_case():
    test = counted.Answers(
        np.array([9, 0, 1, 9, 0]), np.array([1, 2, 4]), np.array([1, 2, 1]), np.full(3, 9), np.array([0, 0, 1])
    )
    exact = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    guess = np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]])
    measure = counted.Measure(test, np.array([0, 1, 0]), exact, False)
    here = np.array([True, True, True])
    kl = [0.5 * log(0.5 / 0.9) + 0.5 * log(0.5 / 0.1), 0.25 * log(0.25 / 0.8) + 0.75 * log(0.75 / 0.2), log(1 / 0.5)]
    nats = [-log(0.9), -log(0.2), -log(0.5)]
    assert measure(guess, here) == pytest.approx((np.mean(nats), np.mean(kl), 2 / 3, 1 / 2))
    assert measure(guess, np.array([False, False, True])) == pytest.approx((nats[2], kl[2], 1.0, 1.0))
    entropy = [log(2), -0.25 * log(0.25) - 0.75 * log(0.75), 0.0]
    assert counted._bayes(measure, here) == pytest.approx((np.mean(entropy), 0.0, (0.5 + 0.75 + 1) / 3, 1.0))


@pytest.fixture(scope="module")
def few():
    patch = pytest.MonkeyPatch()
    patch.setattr(counted, "TRAINING", 1500)
    patch.setattr(counted, "TESTS", 24)
    yield {name: counted.lines(name, parts.keys("task", name)()) for name in NAMES}
    patch.undo()


def rows(lines):
    return {row["difficulty"]: row for row in lines["rows"]}


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_json_data_of_every_difficulty_and_order(few, name):
    lines, task = few[name], made(name)
    assert json.loads(json.dumps(lines, allow_nan=False)) == lines
    assert list(rows(lines)) == [*task.trained, *task.beyond]
    assert [row["trained"] for row in lines["rows"]] == [True] * len(task.trained) + [False] * len(task.beyond)
    for row in lines["rows"]:
        assert [one["order"] for one in row["counted"]] == list(range(2, 11))
        assert all((one["kl"] is None) == (name in ("copy", "depo", "brevo", "mano")) for one in row["counted"])
        assert all((one["whole"] is None) == (name == "brevo") for one in row["counted"])


def test_lines_of_the_walks_are_what_is_known_of_them(few):
    entropy = -(2 / 3) * log(2 / 3) - (1 / 3) * log(1 / 3)
    for difficulty, row in rows(few["ngram"]).items():
        assert row["bayes"]["nats"] == pytest.approx(entropy) and row["bayes"]["accuracy"] == pytest.approx(2 / 3)
        assert row["chance"]["nats"] == pytest.approx(log(64)) and row["chance"]["kl"] == pytest.approx(log(64) - entropy)
        if difficulty >= 16:  # a pair before it says nothing, the pair says what was seen after it
            two, three = (one["kl"] for one in row["counted"][:2])
            assert three < two - 0.5 and two == pytest.approx(log(64) - entropy, abs=0.3)
    for row in few["scrambled"]["rows"]:
        assert row["bayes"]["nats"] == pytest.approx(log(64)) and row["chance"]["kl"] == pytest.approx(0)
        assert all(one["kl"] > 0 for one in row["counted"])
    for row in few["polysemy"]["rows"]:
        assert row["bayes"]["nats"] == 0 and row["bayes"]["whole"] == 1


def test_of_tasks_that_have_one_right_answer_all_can_be_known_and_of_brevo_that_an_order_is_right(few):
    for name in ("copy", "depo", "mano"):
        assert all(row["bayes"] == {"nats": 0.0, "kl": None, "accuracy": 1.0, "whole": 1.0} for row in few[name]["rows"])
    assert all(row["bayes"] == {"nats": None, "kl": None, "accuracy": None, "whole": 1.0} for row in few["brevo"]["rows"])


def test_no_counted_model_of_lano_beats_the_grammar_and_longer_contexts_help_at_first(few):
    row = few["lano"]["rows"][0]
    kl = [one["kl"] for one in row["counted"]]
    assert min(kl) > 0 and kl[2] < kl[0] < row["chance"]["kl"] and row["bayes"]["nats"] < log(4)


def test_chance_of_whole_answers_is_the_guess(few):
    assert few["copy"]["guess"] == pytest.approx(64.0**-8) and few["depo"]["guess"] == pytest.approx(1 / 11)
    assert 1 / factorial(9) < few["brevo"]["guess"] < 0.2
