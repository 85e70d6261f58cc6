"""Random second-order tables: what follows a pair of symbols, which has no formula and must be remembered.

Each pair has K different successors, the likelier first: shares 2^(K-1), ..., 2, 1 of 2^K - 1. Successor j of the pairs
(., b) is a random permutation of the symbols, so each successor is what follows as many pairs, a walk that begins anywhere
meets every pair as often, and its orbits are long: a random map without that would lead every walk into a few short loops,
which can be copied from what stands before. A table is keyed by its name alone: it belongs to the task, not to a run.

To know one is to know symbols^2 x K symbols: at most symbols^2 x K x log2(symbols) bits.
"""

from functools import cache

import numpy as np

from harness.data.draws import Draws
from harness.data.vocabulary import SIZE


class Successors:
    def __init__(self, symbols: int, successors: int, *name: str | int):
        """Needs 2 x successors <= symbols."""
        self.symbols, self.lots = symbols, (1 << successors) - 1  # lots: equally likely draws
        self._successor_of = [j for j in range(successors) for _ in range(1 << (successors - 1 - j))]  # by lot
        draws = Draws(0, "tasks", "table", *name)
        self.table: list[list[int]] = [[] for _ in range(symbols * symbols)]  # at first * symbols + second
        for second in range(symbols):
            column = self.table[second::symbols]  # the same lists, by first
            for _ in range(successors):
                for taken, successor in zip(column, _unlike(draws, column)):
                    taken.append(successor)

    def walk(self, draws: Draws, first: int, second: int, steps: int) -> list[int]:
        """The symbols after a pair."""
        found, table, symbols, lots, of_lot = [], self.table, self.symbols, self.lots, self._successor_of
        for _ in range(steps):
            first, second = second, table[first * symbols + second][of_lot[draws.below(lots)]]
            found.append(second)
        return found

    def exact(self, token_N: np.ndarray) -> np.ndarray:
        """fp64 (N, V): what follows the pair before each token, of a mark, a pair and a walk; NaN up to the pair."""
        exact_NV = np.full((len(token_N), SIZE), np.nan)
        exact_NV[3:] = 0.0
        tokens = token_N.tolist()
        for at in range(3, len(tokens)):
            followers = self.table[tokens[at - 2] * self.symbols + tokens[at - 1]]
            exact_NV[at, followers] = [(1 << j) / self.lots for j in reversed(range(len(followers)))]
        return exact_NV


def _unlike(draws: Draws, taken: list[list[int]]) -> list[int]:
    """A random permutation that gives no place what it has: where it would, two places exchange. j permutations are taken,
    so at most 2j places cannot exchange with one, and fewer than all are no more than that."""
    size = len(taken)
    order = draws.some(size, size)
    for place in range(size):
        while order[place] in taken[place]:
            other = draws.below(size)
            if order[place] not in taken[other] and order[other] not in taken[place]:
                order[place], order[other] = order[other], order[place]
    return order


@cache
def successors(symbols: int, count: int, *name: str | int) -> Successors:
    """A table, made once."""
    return Successors(symbols, count, *name)
