"""`brevo` against all permutations of small graphs."""

from collections import Counter
from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_cases import anything, made, tokens_of

from harness.data.vocabulary import ANSWER, END, QUERY


def parsed(instance):
    """(edges, queried node, answer)."""
    tokens = tokens_of(instance)
    query, answer = tokens.index(QUERY), tokens.index(ANSWER)
    assert answer == query + 2 and query % 2 == 1
    return list(zip(tokens[1:query:2], tokens[2:query:2])), tokens[query + 1], tokens[answer + 1 :]


def ancestors(edges, node):
    found, left = {node}, [node]
    while left:
        at = left.pop()
        new = {parent for parent, child in edges if child == at} - found
        found |= new
        left += new
    return found


def is_right(order, edges, query):
    """From the definition: every ancestor once, each after its parents."""
    return (
        set(order) == ancestors(edges, query)
        and len(order) == len(set(order))
        and not any(child in order[: order.index(parent)] for parent, child in edges)
    )


def judged(task, instance, order, end=(END,)):
    return task.right(instance, np.array([*order, *end], np.int64))


@settings(max_examples=40, deadline=None)
@given(nodes=st.integers(3, 16), seed=st.integers(0, 99))
def test_the_graph_has_no_cycle_at_most_four_children_and_parents_and_all_of_it_is_needed(nodes, seed):
    task = made("brevo", f"nodes={nodes}")
    for difficulty in (None, *task.trained, *task.beyond):
        (instance,) = anything(task, 1, difficulty, seed)
        edges, query, answer = parsed(instance)
        assert len(set(edges)) == len(edges) and instance.difficulty == len(answer) - 1
        parents, children = Counter(child for _, child in edges), Counter(parent for parent, _ in edges)
        assert max(*parents.values(), *children.values()) <= 4 and query not in children
        assert answer[-1] == END and is_right(answer[:-1], edges, query)
        assert len(ancestors(edges, query)) == instance.difficulty == len({node for edge in edges for node in edge})
        assert judged(task, instance, answer[:-1]) is True


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_of_all_orders_just_those_of_the_definition_are_right(n):
    task = made("brevo", f"nodes={n}")
    for instance in anything(task, 6, n):
        edges, query, answer = parsed(instance)
        for order in permutations(answer[:-1]):
            assert judged(task, instance, order) is is_right(list(order), edges, query)


def test_an_answer_that_is_cut_short_too_long_or_repeats_is_wrong():
    task = made("brevo")
    (instance,) = anything(task, 1, 6)
    *order, _ = parsed(instance)[2]
    other = next(node for node in range(64) if node not in order)
    for wrong in (
        order[:-1],
        order[1:],
        [*order, order[-1]],
        [order[0], *order],
        [other, *order],
        [*order[:-2], other, order[-1]],
    ):
        assert judged(task, instance, wrong) is False
    assert judged(task, instance, order, end=()) is False and judged(task, instance, order, end=(END, END)) is False
    assert judged(task, instance, order, end=(ANSWER,)) is False and judged(task, instance, [], end=()) is False


def test_the_state_is_how_many_nodes_could_come_next():
    for instance in anything(made("brevo"), 50):
        edges, _, answer = parsed(instance)
        nodes = set(answer[:-1])
        first = len(instance.token_N) - len(answer)
        for written in range(len(answer)):
            done = set(answer[:written])
            ready = [node for node in nodes - done if {parent for parent, child in edges if child == node} <= done]
            assert instance.latent_N[first - 1 + written] == len(ready)
        assert (instance.latent_N[: first - 1] == -1).all() and instance.latent_N[-1] == -1


def test_a_guesser_is_right_as_often_as_orders_are_right_orders():
    shares = []
    for instance in anything(made("brevo", "nodes=5"), 300, 5):
        edges, query, answer = parsed(instance)
        others = [node for node in answer[:-1] if node != query]
        right = sum(is_right([*order, query], edges, query) for order in permutations(others))
        shares.append(right / factorial(4))
    assert made("brevo", "nodes=5").guess == pytest.approx(np.mean(shares), abs=3 * np.std(shares) / np.sqrt(300) + 0.02)


def test_sizes_and_names_are_each_as_often_and_edges_are_in_no_order():
    found = anything(made("brevo", "nodes=6 symbols=12"), 3000)
    sizes = Counter(one.difficulty for one in found)
    assert sorted(sizes) == [4, 6] and sizes[4] / 3000 == pytest.approx(1 / 2, abs=0.03)
    names = Counter(name for one in found for name in parsed(one)[2][:-1])
    assert len(names) == 12 and all(count / names.total() == pytest.approx(1 / 12, rel=0.1) for count in names.values())
    listed = [parsed(one)[:2] for one in found if one.difficulty == 6]
    first_is = np.mean([edges[0][1] == query for edges, query in listed])
    any_is = np.mean([np.mean([child == query for _, child in edges]) for edges, query in listed])
    assert first_is == pytest.approx(any_is, abs=0.04)


def test_the_question_is_the_graph_whatever_the_order_of_its_edges():
    by_graph = {}
    for instance in anything(made("brevo", "nodes=3 symbols=8"), 4000, 3):
        by_graph.setdefault(frozenset(parsed(instance)[0]), set()).add(instance.question)
    assert len(by_graph) > 300 and all(len(questions) == 1 for questions in by_graph.values())
    assert len(set().union(*by_graph.values())) == len(by_graph)
