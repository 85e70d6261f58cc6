"""`ngram`, `polysemy` and `scrambled`: walks over symbols."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from task_cases import anything, made, tokens_of

from harness.data.instances import NONE
from harness.data.successors import Successors, successors
from harness.data.vocabulary import begin

TABLES = pytest.mark.parametrize("symbols, count", [(8, 4), (8, 1), (64, 2), (128, 3)])


def triples(tokens):
    return zip(tokens[1:], tokens[2:], tokens[3:])


@TABLES
def test_a_pair_has_different_successors_and_each_one_follows_as_many_pairs(symbols, count):
    table = Successors(symbols, count, "a test").table
    assert len(table) == symbols**2 and all(len(set(row)) == count == len(row) for row in table)
    for second in range(symbols):
        for j in range(count):
            assert sorted(table[first * symbols + second][j] for first in range(symbols)) == list(range(symbols))


def test_a_table_is_no_linear_formula_and_belongs_to_its_name():
    m = 64
    table = np.array(successors(m, 1, "ngram").table).reshape(m, m)
    for step in (np.diff(table, axis=0), np.diff(table, axis=1)):  # of a formula they would all be the same
        counts = np.bincount(step.ravel() % m, minlength=m)
        assert counts.max() < 3 * counts.mean()
    assert not np.array_equal(table, np.array(successors(m, 1, "another").table).reshape(m, m))
    assert np.array_equal(table, np.array(Successors(m, 1, "ngram").table).reshape(m, m))


EXACT = {"ngram": "symbols=8 steps=32 successors=3", "polysemy": "symbols=8 steps=32 successors=2"}


@pytest.mark.parametrize("name", EXACT)
def test_exact_distributions_are_those_of_what_is_drawn(name):
    task = made(name, EXACT[name])
    drawn, exact = defaultdict(Counter), {}
    for instance in anything(task, 1500, 32):
        tokens, exact_NV = tokens_of(instance), task.exact(instance)
        for at, (a, b, c) in enumerate(triples(tokens), start=3):
            drawn[tokens[0], a, b][c] += 1
            exact[tokens[0], a, b] = exact_NV[at]
    assert len(drawn) == 64 * (2 if name == "polysemy" else 1)
    for pair, counts in drawn.items():
        share = np.array([counts[c] for c in range(8)]) / counts.total()
        np.testing.assert_allclose(share, exact[pair][:8], atol=5 * 0.5 / np.sqrt(counts.total()))
        assert not share[exact[pair][:8] == 0].any() and exact[pair].sum() == pytest.approx(1)
        expected = {3: [4 / 7, 2 / 7, 1 / 7], 2: [2 / 3, 1 / 3]}[task.keys.successors]
        np.testing.assert_allclose(sorted(exact[pair])[: -len(expected) - 1 : -1], expected)


@pytest.mark.parametrize("name", ["ngram", "polysemy", "scrambled"])
def test_every_pair_is_met_as_often(name):
    task = made(name, "symbols=8 steps=32")
    counts = Counter(pair[:2] for one in anything(task, 3000, 32) for pair in triples(tokens_of(one)))
    assert len(counts) == 64 and all(n / counts.total() == pytest.approx(1 / 64, rel=0.15) for n in counts.values())


@pytest.mark.parametrize("name", ["ngram", "polysemy", "scrambled"])
def test_after_the_mark_and_a_pair_everything_is_an_answer_and_the_pair_with_the_mark_is_the_question(name):
    task = made(name)
    assert task.trained == (1, 2, 4, 8, 16, 32) and task.beyond == (64,)
    for instance in anything(task, 50):
        tokens = tokens_of(instance)
        assert instance.answer_N.tolist() == [False] * 3 + [True] * instance.difficulty
        assert instance.question == bytes(tokens[:3]) and max(tokens[1:]) < 64
        n = instance.difficulty
        sources = {"ngram": list(range(1, n + 1)), "polysemy": [0] * n, "scrambled": [NONE] * n}
        assert instance.source_N[3:].tolist() == sources[name]


@pytest.mark.parametrize("name", ["ngram", "polysemy", "scrambled"])
def test_lengths_are_each_as_often(name):
    lengths = Counter(one.difficulty for one in anything(made(name, "symbols=8 steps=4"), 3000))
    assert sorted(lengths) == [1, 2, 4] and all(n / 3000 == pytest.approx(1 / 3, abs=0.03) for n in lengths.values())


def test_an_odd_length_is_trained_beside_the_powers_of_two_below_it():
    assert made("ngram", "steps=5").trained == (1, 2, 4, 5) and made("ngram", "steps=1").trained == (1,)


def test_the_two_maps_are_walked_as_often_are_told_apart_by_the_mark_alone_and_have_nothing_in_common():
    task = made("polysemy")
    found = anything(task, 2000)
    which = [one.token_N[0] - begin("polysemy") for one in found]
    assert set(which) == {0, 1} and np.mean(which) == pytest.approx(1 / 2, abs=0.04)
    assert all((one.latent_N == mode).all() for one, mode in zip(found, which))
    maps = [np.array(table.table) for table in task.tables]
    for one, mode in zip(found[:200], which):
        tokens = tokens_of(one)
        assert all(maps[mode][a * 64 + b, 0] == c for a, b, c in triples(tokens))
    others = np.array(successors(64, 1, "ngram").table)
    for a, b in ((maps[0], maps[1]), (maps[0], others), (maps[1], others)):
        assert np.mean(a == b) == pytest.approx(1 / 64, abs=0.01)


def test_scrambled_is_uniform_whatever_stands_before():
    task = made("scrambled", "symbols=8 steps=32")
    after = defaultdict(Counter)
    for instance in anything(task, 2000, 32):
        tokens = tokens_of(instance)
        for _, b, c in triples(tokens):
            after[b][c] += 1
        assert (task.exact(instance)[3:, :8] == 1 / 8).all() and not task.exact(instance)[3:, 8:].any()
    assert all(n / counts.total() == pytest.approx(1 / 8, rel=0.1) for counts in after.values() for n in counts.values())
    assert all(len(counts) == 8 for counts in after.values())


def test_orbits_of_a_map_are_long_so_that_little_can_be_copied_from_context():
    again = []
    for instance in anything(made("polysemy"), 400, 32):
        tokens = tokens_of(instance)
        met = list(zip(tokens[1:], tokens[2:]))
        again += [pair in met[:at] for at, pair in enumerate(met)]
    assert np.mean(again) < 0.01
