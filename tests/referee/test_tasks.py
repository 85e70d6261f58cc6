"""Generated tasks against networkx (orders) and nltk (grammars)."""

import networkx
import numpy as np
import pytest
from nltk import PCFG, Nonterminal
from nltk.grammar import ProbabilisticProduction
from nltk.parse import InsideChartParser

from harness.data.draws import Draws
from harness.data.vocabulary import ANSWER, END, QUERY, begin
from harness.plan import parts


def made(name, **keys):
    return parts.part("task", name)(parts.keys("task", name)(**keys))


@pytest.mark.parametrize("n", [4, 6, 8])
def test_brevo_is_right_in_just_the_orders_that_networkx_lists(n):
    task, draws, judged = made("brevo", nodes=n), Draws(1, "networkx", n), np.random.default_rng(1)
    for _ in range(5):
        instance = task.draw(draws, n)
        tokens = instance.token_N.tolist()
        query = tokens.index(QUERY)
        graph = networkx.DiGraph(zip(tokens[1:query:2], tokens[2:query:2]))
        assert networkx.ancestors(graph, tokens[query + 1]) == set(graph) - {tokens[query + 1]}
        orders = {tuple(order) for order in networkx.all_topological_sorts(graph)}
        assert tuple(tokens[tokens.index(ANSWER) + 1 : -1]) in orders
        assert all(task.right(instance, np.array([*order, END])) for order in orders)
        for _ in range(500):
            order = judged.permutation(list(graph)).tolist()
            assert task.right(instance, np.array([*order, END])) == (tuple(order) in orders)


def nltk_grammar(grammar):
    """The same grammar as nltk writes it; symbol y of level l is (l, y), and a written one is its number."""
    found = []
    for level, of_symbol in enumerate(grammar.productions):
        last = level == grammar.depth - 1
        for symbol, productions in enumerate(of_symbol):
            for production in productions:
                right = [str(s) if last else Nonterminal((level + 1, s)) for s in production]
                found.append(ProbabilisticProduction(Nonterminal((level, symbol)), right, prob=1 / len(productions)))
    return PCFG(Nonterminal((0, 0)), found)


@pytest.mark.parametrize("number", range(3))
def test_the_exact_distribution_of_lano_gives_a_string_the_probability_that_nltk_sums_over_its_trees(number):
    task = made("lano", grammars=3, depth=3, symbols=3, degree=2)
    parser, draws, met = InsideChartParser(nltk_grammar(task.grammars[number])), Draws(1, "nltk", number), 0
    while met < 5:
        instance = task.draw(draws, None)
        tokens = instance.token_N.tolist()
        if tokens[0] == begin("lano", number) and len(tokens) < 16:
            exact = task.exact(instance)[np.arange(1, len(tokens)), tokens[1:]]
            trees = parser.parse([str(token) for token in tokens[1:-1]])
            assert np.prod(exact) == pytest.approx(sum(tree.prob() for tree in trees), rel=1e-9)
            met += 1
