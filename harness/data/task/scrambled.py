"""`scrambled`: the form of `ngram`, and nothing to learn.

    BEGIN  s_1 s_2  s_3 ... s_{n+2}                                      the difficulty is n, the answers

Every symbol is drawn by itself, each equally often: the control whose nats no model can bring below log(symbols). The split is
by the mark and the first pair, as of `ngram`.
"""

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import Instance, instance
from harness.data.task import Known
from harness.data.vocabulary import SIZE, begin
from harness.plan.parts.task.scrambled import Keys


class Scrambled(Known):
    def __init__(self, keys: Keys):
        super().__init__(keys)
        self.guess = float(keys.symbols) ** -keys.steps

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        steps = self.chosen(draws, difficulty)
        tokens = [begin("scrambled"), *[draws.below(self.keys.symbols) for _ in range(2 + steps)]]
        return instance(tokens, range(3, len(tokens)), steps, bytes(tokens[:3]))

    def exact(self, instance: Instance) -> np.ndarray:
        exact_NV = np.full((len(instance.token_N), SIZE), np.nan)
        exact_NV[3:] = 0.0
        exact_NV[3:, : self.keys.symbols] = 1 / self.keys.symbols
        return exact_NV


PART = Scrambled
