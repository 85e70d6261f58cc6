"""Layered context-free grammars with exact distributions of the next symbol.

A grammar has a start and `depth` levels of `symbols` symbols each, of which the last level's are written. A symbol becomes one
of `degree` different productions, each as often: 2 or 3 symbols of the next level, which may repeat.

Exact distributions (`Grammar.following`) by dynamic programming over boundaries of a string of L symbols. Let B_a be the
(L + 1) x (L + 1) matrix of the probabilities that a becomes what stands between two boundaries. B_a of a written symbol is 1
from i to i + 1 where it stands there; else it is the mean over its productions of the *matrix product* of their B. Let o_a be
the row of the joint probabilities that the string begins with its first i symbols and a begins there. o of the start is 1 at
0, and a production a -> x y z of share p adds p o_a to o_x, p o_a B_x to o_y and p o_a B_x B_y to o_z. So o of a written symbol
is how likely the first i symbols and then this one are. All in fp64 without logarithms, which is enough for any string here.
"""

from functools import cache
from itertools import product

import numpy as np

from harness.data.draws import Draws
from harness.plan.parts.task.lano import LONGEST, SHORTEST

Production = tuple[int, ...]


class Grammar:
    """`productions`: by level (0: the start's), then by symbol. Letters: L symbols of a string, Y symbols of a level."""

    def __init__(self, depth: int, symbols: int, degree: int, number: int):
        self.depth, self.symbols, self.degree = depth, symbols, degree
        draws = Draws(0, "tasks", "grammar", number)
        self.productions: list[list[list[Production]]] = []
        for level in range(depth):
            of_level = [_productions(draws, symbols, degree) for _ in range(symbols if level else 1)]
            self.productions.append(of_level)

    def derive(self, draws: Draws, level: int) -> tuple[list[int], list[int]]:
        """(a string, the symbol of this level that each of its symbols comes from)."""
        string, origin = [0], [0]
        for at, of_symbol in enumerate(self.productions):
            if at == level:
                origin = string
            longer, from_where = [], []
            for symbol, source in zip(string, origin):
                production = of_symbol[symbol][draws.below(self.degree)]
                longer += production
                from_where += [source] * len(production)
            string, origin = longer, from_where
        return string, origin

    def lengths(self) -> np.ndarray:
        """fp64: the share of strings of each length, 0 upwards."""
        shares = [np.array([0.0, 1.0])] * self.symbols  # of what a symbol becomes
        for of_symbol in reversed(self.productions):
            shares = [_mean([_convolved(shares, production) for production in productions]) for productions in of_symbol]
        return shares[0]

    def following(self, string: list[int]) -> np.ndarray:
        """fp64 (L + 1, Y + 1): after the first i symbols, how likely each is the next, and in the last column the end."""
        inside, size = self._inside(string), len(string) + 1
        begins, whole = [np.zeros(size)], np.zeros(size)
        begins[0][0] = 1.0
        for level, of_symbol in enumerate(self.productions):
            below = [np.zeros(size) for _ in range(self.symbols)]
            for row, productions in zip(begins, of_symbol):
                for production in productions:
                    reached = row / self.degree
                    for symbol in production:
                        below[symbol] += reached
                        reached = reached @ inside[level + 1][symbol]
                    if level == 0:
                        whole += reached
            begins = below
        joint = np.stack([*begins, whole], axis=1)
        return joint / joint.sum(1, keepdims=True)

    def _inside(self, string: list[int]) -> list[list[np.ndarray]]:
        """B of each symbol, by level; nothing of level 0, the start's."""
        size = len(string) + 1
        written = [np.zeros((size, size)) for _ in range(self.symbols)]
        for at, symbol in enumerate(string):
            written[symbol][at, at + 1] = 1.0
        found = [written]
        for of_symbol in reversed(self.productions[1:]):
            below = found[-1]
            found.append([sum(_product(below, it) for it in productions) / self.degree for productions in of_symbol])
        return [[], *reversed(found)]


def _productions(draws: Draws, symbols: int, degree: int) -> list[Production]:
    """Different ones; either length as often, and of a length each as often."""
    possible = [list(product(range(symbols), repeat=length)) for length in range(SHORTEST, LONGEST + 1)]
    found: dict[Production, None] = {}
    while len(found) < degree:
        found[draws.one_of(draws.one_of(possible))] = None
    return list(found)


def _product(matrices: list[np.ndarray], production: Production) -> np.ndarray:
    found = matrices[production[0]]
    for symbol in production[1:]:
        found = found @ matrices[symbol]
    return found


def _convolved(shares: list[np.ndarray], production: Production) -> np.ndarray:
    found = shares[production[0]]
    for symbol in production[1:]:
        found = np.convolve(found, shares[symbol])
    return found


def _mean(shares: list[np.ndarray]) -> np.ndarray:
    found = np.zeros(max(map(len, shares)))
    for share in shares:
        found[: len(share)] += share / len(shares)
    return found


@cache
def grammar(depth: int, symbols: int, degree: int, number: int) -> Grammar:
    """A grammar, made once."""
    return Grammar(depth, symbols, degree, number)
