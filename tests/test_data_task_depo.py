"""`depo` against a walk along the edges as a reader parses them."""

from collections import Counter
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_cases import anything, made, tokens_of

from harness.data.instances import NONE
from harness.data.vocabulary import ANSWER, QUERY


def words_of(tokens, symbols):
    """[(place, word)]: a word ends with a symbol of the second alphabet."""
    found, start = [], None
    for at, token in enumerate(tokens):
        start = at if start is None else start
        if symbols <= token < 2 * symbols:
            found.append((start, tuple(tokens[start : at + 1])))
            start = None
    assert start is None
    return found


def parsed(tokens, symbols):
    """({word: (place, next word)}, [(hops, start, place of ANSWER, target)])."""
    body = tokens[1 : tokens.index(QUERY)]
    words = [(at + 1, word) for at, word in words_of(body, symbols)]
    edges = {a: (place, b) for (_, a), (place, b) in zip(words[::2], words[1::2])}
    assert len(edges) == len(words) // 2
    queries, at = [], tokens.index(QUERY)
    while at < len(tokens):
        hops = 0
        while tokens[at] == QUERY:
            hops, at = hops + 1, at + 1
        answer = tokens.index(ANSWER, at)
        end = tokens.index(QUERY, answer) if QUERY in tokens[answer:] else len(tokens)
        ((_, start),), ((_, target),) = words_of(tokens[at:answer], symbols), words_of(tokens[answer + 1 : end], symbols)
        queries.append((hops, start, answer, target))
        at = end
    return edges, queries


KEYS = st.fixed_dictionaries({
    "entities": st.integers(5, 14), "hops": st.integers(1, 4), "queries": st.integers(1, 6), "symbols": st.integers(14, 64),
    "word": st.integers(1, 4),
})  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(keys=KEYS, seed=st.integers(0, 99))
def test_each_target_is_found_by_following_the_edges_and_its_source_is_the_last_edge(keys, seed):
    task = made("depo", " ".join(f"{key}={value}" for key, value in keys.items()))
    for difficulty in (None, *task.trained, *task.beyond):
        (instance,) = anything(task, 1, difficulty, seed)
        tokens = tokens_of(instance)
        edges, queries = parsed(tokens, keys["symbols"])
        scored, latent_N = [], np.full(len(tokens), NONE)
        for hops, start, answer, target in queries:
            node = start
            for _ in range(hops):
                before, (place, node) = node, edges[node]
            assert node == target != start
            if hops > 1:
                latent_N[answer] = before[0]
            scored += range(answer + 1, answer + 1 + len(target))
            assert instance.source_N[answer + 1 : answer + 1 + len(target)].tolist() == list(range(place, place + len(target)))
        assert np.flatnonzero(instance.answer_N).tolist() == scored
        np.testing.assert_array_equal(instance.latent_N, latent_N)
        assert max(hops for hops, *_ in queries) == instance.difficulty
        assert len({start for _, start, *_ in queries}) == len(queries)
        n = len(edges)
        if difficulty is None:
            assert 3 <= n <= keys["entities"] and len(queries) == min(n, keys["queries"])
            assert max(hops for hops, *_ in queries) <= min(keys["hops"], n - 1)
        else:
            assert n == keys["entities"] and [hops for hops, *_ in queries] == [difficulty]
        walked, node = set(), next(iter(edges))
        while node not in walked:
            walked.add(node)
            node = edges[node][1]
        assert len(walked) == n  # one cycle


def test_hops_beyond_those_trained_lead_to_no_start():
    assert made("depo").beyond == (6, 8)
    assert made("depo", "entities=7").beyond == (6,)
    assert made("depo", "entities=5").beyond == ()


def test_sizes_hops_and_lengths_of_words_are_as_specified():
    found = [parsed(tokens_of(one), 8) for one in anything(made("depo"), 4000)]
    sizes = Counter(len(edges) for edges, _ in found)
    weights = {n: 1 / (n + sqrt(12)) for n in range(3, 13)}
    for n, weight in weights.items():
        assert sizes[n] / 4000 == pytest.approx(weight / sum(weights.values()), abs=0.02)
    hops = Counter(hops for edges, queries in found if len(edges) > 4 for hops, *_ in queries)
    assert all(hops[k] / hops.total() == pytest.approx(1 / 4, abs=0.02) for k in range(1, 5))
    first = Counter(len(word) for edges, _ in found for word in list(edges)[:1])
    # words are different ones, and there are 8 of a symbol to 64 of two
    assert 0.4 < first[1] / first.total() < 0.5


def test_the_place_of_an_edge_says_nothing_of_its_place_in_the_cycle():
    distances = Counter()
    for instance in anything(made("depo", "entities=6"), 3000, 1):
        words = list(parsed(tokens_of(instance), 8)[0].items())
        distances[words[1][0] == words[0][1][1]] += 1  # the second edge listed goes on from the first one
    assert distances[True] / distances.total() == pytest.approx(1 / 5, abs=0.03)


def test_the_question_is_the_cycle_wherever_it_begins_and_however_it_is_listed():
    task, by_cycle = made("depo", "entities=5 hops=2 symbols=5 word=1"), {}
    for instance in anything(task, 2000, 1):
        edges = {a: b for a, (_, b) in parsed(tokens_of(instance), 5)[0].items()}
        by_cycle.setdefault(frozenset(edges.items()), set()).add(instance.question)
    assert len(by_cycle) == 24 and all(len(questions) == 1 for questions in by_cycle.values())
    assert len(set().union(*by_cycle.values())) == 24
