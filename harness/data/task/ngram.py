"""`ngram`: a walk over symbols, each of which depends on the two before it by a random table.

    BEGIN  s_1 s_2  s_3 ... s_{n+2}                                      the difficulty is n, the answers

The table (`harness/data/successors.py`) has symbols^2 pairs, each with `successors` possible successors of known shares: it
must be remembered, pair by pair, and the exact distribution is known. Training and test walk over the same table, since there
is no other way to know it; the split is by the mark and the first pair.

Source: the earlier symbol of the pair, as the later one is the token before.
"""

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import Instance, instance
from harness.data.successors import successors
from harness.data.task import Known
from harness.data.vocabulary import begin
from harness.plan.parts.task.ngram import Keys


class Ngram(Known):
    def __init__(self, keys: Keys):
        super().__init__(keys)
        self.table = successors(keys.symbols, keys.successors, "ngram")
        self.guess = float(keys.symbols) ** -keys.steps

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        steps = self.chosen(draws, difficulty)
        first, second = draws.below(self.keys.symbols), draws.below(self.keys.symbols)
        tokens = [begin("ngram"), first, second, *self.table.walk(draws, first, second, steps)]
        made = instance(tokens, range(3, len(tokens)), steps, bytes(tokens[:3]))
        made.source_N[3:] = range(1, steps + 1)
        return made

    def exact(self, instance: Instance) -> np.ndarray:
        return self.table.exact(instance.token_N)


PART = Ngram
