"""`copy`: symbols, a gap of noise, and the same symbols again.

    BEGIN s_1 ... s_n  QUERY  x_1 ... x_g  ANSWER  s_1 ... s_n          the difficulty is n; the gap g is drawn up to `gap`

Symbols and noise are drawn from the same `symbols` ids, so that nothing but the place tells them apart.
"""

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import Instance, instance
from harness.data.vocabulary import ANSWER, QUERY, begin
from harness.plan.parts.task.copy import Keys


class Copy:
    def __init__(self, keys: Keys):
        self.keys = keys
        self.trained = tuple(range(1, keys.length + 1))
        self.beyond = (keys.length + keys.length // 2, 2 * keys.length)
        self.latents = 0
        self.guess = float(keys.symbols) ** -keys.length

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        n = difficulty if difficulty is not None else draws.one_of(self.trained)
        symbols = [draws.below(self.keys.symbols) for _ in range(n)]
        gap = [draws.below(self.keys.symbols) for _ in range(draws.below(self.keys.gap + 1))]
        tokens = [begin("copy"), *symbols, QUERY, *gap, ANSWER, *symbols]
        first = len(tokens) - n
        made = instance(tokens, range(first, len(tokens)), n, bytes(symbols))
        made.source_N[first:] = range(1, n + 1)
        return made

    def longest(self, difficulty: int) -> int:
        return 2 * difficulty + self.keys.gap + 3

    def right(self, instance: Instance, written: np.ndarray) -> None:
        return None

    def exact(self, instance: Instance) -> None:
        return None


PART = Copy
