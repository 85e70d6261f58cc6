"""`brevo`: nodes in an order in which every parent comes before its children.

    BEGIN  p c  p c ...   QUERY  q  ANSWER  x_1 ... x_n  END            x_n = q; the difficulty is n

A random graph without cycles is listed edge by edge, (parent, child), in random order; its nodes have random names. The answer
is all that the queried node needs, itself last, and any order in which each node comes after its parents is right (`right`);
the one that training shows takes one of the nodes whose parents are written at random, again and again. Nodes are laid out in
a row, the queried one last, and each of the others draws 1 to 4 children among those after it that have fewer than 4 parents:
the mirror of Brevo in "Physics of Language Models: Part 4.1", where nodes draw parents. So all n nodes are ancestors of the
queried one, and the difficulty is the length of the answer.

The split is by the edges, in whatever order. Latent: from ANSWER on, how many nodes could come next.
"""

from functools import cached_property
from math import factorial, prod

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import Instance, instance
from harness.data.task import Known
from harness.data.vocabulary import ANSWER, END, QUERY, begin
from harness.plan.parts.task.brevo import MOST, Keys

GUESSES = 256  # graphs that `guess` is counted on

Edge = tuple[int, int]  # parent, child


class Brevo(Known):
    def __init__(self, keys: Keys):
        super().__init__(keys)
        self.latents = max(self.beyond)  # 0 to n - 1 nodes could be next

    @cached_property
    def guess(self) -> float:
        """Of who writes all nodes in any order, the queried one last: right orders / (n - 1)!, over random graphs. Where each
        node is drawn from c that could be next, the product of all c has the number of right orders as its mean (Knuth 1975,
        "Estimating the efficiency of backtrack programs")."""
        draws, n = Draws(0, "tasks", "guess", "brevo"), self.trained[-1]
        orders = [prod(_order(draws, _graph(draws, n), n)[1][:-1]) for _ in range(GUESSES)]
        return sum(orders) / GUESSES / factorial(n - 1)

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        n = self.chosen(draws, difficulty)
        names, edges = draws.some(self.keys.symbols, n), _graph(draws, n)
        named = [(names[parent], names[child]) for parent, child in edges]
        tokens = [begin("brevo")]
        for edge in draws.some(len(named), len(named)):
            tokens += named[edge]
        tokens += [QUERY, names[-1], ANSWER]
        order, choices = _order(draws, edges, n)
        first = len(tokens)
        tokens += [*[names[node] for node in order], END]
        question = bytes(token for edge in sorted(named) for token in edge)
        made = instance(tokens, range(first, len(tokens)), n, question)
        made.latent_N[first - 1 : -1] = choices
        return made

    def right(self, instance: Instance, written: np.ndarray) -> bool:
        """`written`: the answer from its first token on, END included."""
        n, tokens = instance.difficulty, instance.token_N.tolist()
        *order, end = written.tolist() or [None]
        first = tokens.index(ANSWER) + 1
        place = {node: at for at, node in enumerate(order)}
        if end != END or len(order) != n or place.keys() != set(tokens[first:-1]):
            return False
        return all(place[parent] < place[child] for parent, child in zip(tokens[1 : first - 3 : 2], tokens[2 : first - 3 : 2]))


def _graph(draws: Draws, n: int) -> list[Edge]:
    """Nodes 0 to n - 1, of which the last is queried."""
    parents, edges = [0] * n, []
    for node in range(n - 2, -1, -1):
        free = [later for later in range(node + 1, n) if parents[later] < MOST]  # never none: each node has at most 4 children
        for at in draws.some(len(free), min(draws.between(1, MOST), len(free))):
            parents[free[at]] += 1
            edges.append((node, free[at]))
    return edges


def _order(draws: Draws, edges: list[Edge], n: int) -> tuple[list[int], list[int]]:
    """A right order, and how many nodes could be next before each and after the last."""
    missing, children = [0] * n, [[] for _ in range(n)]
    for parent, child in edges:
        missing[child] += 1
        children[parent].append(child)
    ready, order, choices = [node for node in range(n) if not missing[node]], [], []
    while ready:
        choices.append(len(ready))
        order.append(node := ready.pop(draws.below(len(ready))))
        for child in children[node]:
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    return order, [*choices, 0]


PART = Brevo
