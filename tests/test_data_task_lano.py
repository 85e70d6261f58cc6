"""`lano` against all strings of small grammars with their probabilities, enumerated."""

from collections import Counter, defaultdict
from functools import cache
from itertools import product

import numpy as np
import pytest
from task_cases import anything, made, tokens_of

from harness.data.draws import Draws
from harness.data.grammar import grammar
from harness.data.instances import NONE
from harness.data.vocabulary import END, begin

SMALL = "grammars=3 depth=3 symbols=2 degree=2"


@cache
def language(number, depth=3, symbols=2, degree=2):
    """{string: its probability}, by rewriting every symbol in every way."""
    made_of = grammar(depth, symbols, degree, number).productions
    below = [{(symbol,): 1.0} for symbol in range(symbols)]
    for of_symbol in made_of[::-1]:
        level = []
        for productions in of_symbol:
            found = defaultdict(float)
            for production in productions:
                for parts in product(*(below[symbol].items() for symbol in production)):
                    string = sum((part for part, _ in parts), ())
                    found[string] += np.prod([share for _, share in parts]) / len(productions)
            level.append(dict(found))
        below = level
    (whole,) = below
    return whole


def enumerated(number, string):
    """(L + 1, 3): after each prefix, how likely each of two symbols and the end are, by adding up all strings."""
    joint = np.zeros((len(string) + 1, 3))
    for other, share in language(number).items():
        for at in range(len(string) + 1):
            if other[:at] != string[:at]:
                break
            joint[at, other[at] if at < len(other) else 2] += share
    return joint / joint.sum(1, keepdims=True)


@pytest.mark.parametrize("number", range(3))
def test_exact_distributions_are_those_of_all_strings_enumerated(number):
    task = made("lano", SMALL)
    assert sum(language(number).values()) == pytest.approx(1)
    found = [one for one in anything(task, 60) if one.token_N[0] == begin("lano", number)]
    for instance in found[:8]:
        string = tuple(tokens_of(instance)[1:-1])
        exact = task.exact(instance)[1:]
        np.testing.assert_allclose(exact[:, [0, 1, END]], enumerated(number, string), atol=1e-12)
        assert exact.sum() == pytest.approx(len(exact))
        answers = exact[np.arange(len(exact)), instance.token_N[1:]]
        assert np.prod(answers) == pytest.approx(language(number)[string], rel=1e-9)


def test_strings_come_as_often_as_they_are_likely():
    found = Counter(tuple(tokens_of(one)) for one in anything(made("lano", SMALL), 12000))
    marks = Counter(string[0] for string in found.elements())
    assert all(marks[begin("lano", number)] / 12000 == pytest.approx(1 / 3, abs=0.02) for number in range(3))
    for number in range(3):
        drawn = {s[1:-1]: count for s, count in found.items() if s[0] == begin("lano", number)}
        total = sum(drawn.values())
        assert drawn.keys() <= language(number).keys()
        for part in (slice(0, 4), slice(-4, None)):
            expected, met = defaultdict(float), Counter()
            for string, share in language(number).items():
                expected[string[part]] += share
            for string, count in drawn.items():
                met[string[part]] += count
            for piece, share in expected.items():
                assert met[piece] / total == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / total) + 1e-3)


def test_every_token_after_the_mark_is_an_answer_and_the_last_is_the_end():
    for instance in anything(made("lano"), 50):
        tokens = tokens_of(instance)
        assert instance.answer_N.tolist() == [False, *[True] * (len(tokens) - 1)]
        assert tokens[-1] == END and max(tokens[1:-1]) < 3 and 16 <= len(tokens) - 2 <= 81
        assert (instance.source_N == NONE).all()


@pytest.mark.parametrize("words", ["", SMALL])
def test_a_symbol_becomes_different_productions_of_two_or_three_of_which_some_repeat(words):
    grammars = made("lano", words).grammars
    all_productions = [productions for one in grammars for of_symbol in one.productions for productions in of_symbol]
    assert all(len(set(productions)) == len(productions) == grammars[0].degree for productions in all_productions)
    flat = [production for productions in all_productions for production in productions]
    assert {len(production) for production in flat} == {2, 3}
    assert any(len(set(production)) < len(production) for production in flat)
    assert len({repr(one.productions) for one in grammars}) == len(grammars)


def test_lengths_are_those_that_the_grammars_give():
    for number in range(3):
        one = grammar(3, 2, 2, number)
        found = defaultdict(float)
        for string, share in language(number).items():
            found[len(string)] += share
        np.testing.assert_allclose(one.lengths(), [found[length] for length in range(len(one.lengths()))], atol=1e-12)


def test_beyond_are_the_longest_tenth():
    task = made("lano")
    (long,) = task.beyond
    lengths = [len(one.token_N) - 2 for one in anything(task, 3000)]
    assert np.mean([length >= long for length in lengths]) == pytest.approx(0.1, abs=0.03)
    assert max(lengths) + 2 <= task.longest(long) <= 83
    assert all(len(one.token_N) - 2 >= long for one in anything(task, 30, long))


def test_the_state_is_the_middle_symbol_that_a_token_comes_from():
    task = made("lano", SMALL)
    (of_start,), *_ = task.grammars[0].productions
    for instance in anything(task, 60):
        if instance.token_N[0] != begin("lano"):
            assert (instance.latent_N == NONE).all()
            continue
        assert instance.latent_N[0] == instance.latent_N[-1] == NONE
        # the level is 1: runs of a state become what the grammar has for it, one after the other
        states, string = instance.latent_N[1:-1].tolist(), tokens_of(instance)[1:-1]
        assert any(splits(states, string, production) for production in of_start)


@cache
def becomes(symbol):
    """All that a symbol of level 1 of the first small grammar can become."""
    level_1, level_2 = grammar(3, 2, 2, 0).productions[1:]
    return {sum(parts, ()) for production in level_1[symbol] for parts in product(*(level_2[below] for below in production))}


def splits(states, string, production):
    """Whether a string can be cut so that part i has the state of symbol i of the production throughout, and comes from it."""
    if not production:
        return not string
    symbol, *rest = production
    for end in range(1, len(string) + 1):
        if states[end - 1] != symbol:
            return False
        if tuple(string[:end]) in becomes(symbol) and splits(states[end:], string[end:], rest):
            return True
    return False


def test_which_level_is_asked_for_changes_no_draw():
    one = grammar(4, 3, 3, 1)
    for seed in range(20):
        strings = [one.derive(Draws(seed, "derive"), level) for level in range(1, 4)]
        assert len({tuple(string) for string, _ in strings}) == 1
