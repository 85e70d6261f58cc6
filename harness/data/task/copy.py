"""`copy`: symbols, a gap of noise, and the same symbols again.

    BEGIN s_1 ... s_n  QUERY  x_1 ... x_g  ANSWER  s_1 ... s_n          the difficulty is n; the gap g is drawn up to `gap`

Symbols and noise are drawn from the same `symbols` ids, so that nothing but the place tells them apart. The split is by
s_1 ... s_n: an eighth of the symbols is never copied alone in training, but stands in longer copies.
"""

from harness.data.draws import Draws
from harness.data.instances import Instance, instance
from harness.data.task import Known
from harness.data.vocabulary import ANSWER, QUERY, begin
from harness.plan.parts.task.copy import Keys


class Copy(Known):
    def __init__(self, keys: Keys):
        super().__init__(keys)
        self.guess = float(keys.symbols) ** -keys.length

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        n = self.chosen(draws, difficulty)
        symbols = [draws.below(self.keys.symbols) for _ in range(n)]
        gap = [draws.below(self.keys.symbols) for _ in range(draws.below(self.keys.gap + 1))]
        tokens = [begin("copy"), *symbols, QUERY, *gap, ANSWER, *symbols]
        first = len(tokens) - n
        made = instance(tokens, range(first, len(tokens)), n, bytes(symbols))
        made.source_N[first:] = range(1, n + 1)
        return made


PART = Copy
