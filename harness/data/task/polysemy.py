"""`polysemy`: the same symbols under two maps; the mark at the start says which.

    BEGIN_A or BEGIN_B  s_1 s_2  s_3 ... s_{n+2}                         the difficulty is n, the answers

The maps are two tables as `ngram` has one (`harness/data/successors.py`), independent of it and of each other, and each is
walked as often. The split is by the mark and the first pair.

Latent: from the mark on, which map. Source: the mark.
"""

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import Instance, instance
from harness.data.successors import successors
from harness.data.task import Known
from harness.data.vocabulary import begin
from harness.plan.parts.task.polysemy import Keys

MAPS = 2


class Polysemy(Known):
    latents = MAPS

    def __init__(self, keys: Keys):
        super().__init__(keys)
        self.tables = [successors(keys.symbols, keys.successors, "polysemy", which) for which in range(MAPS)]
        self.guess = float(keys.symbols) ** -keys.steps

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        which, steps = draws.below(MAPS), self.chosen(draws, difficulty)
        first, second = draws.below(self.keys.symbols), draws.below(self.keys.symbols)
        tokens = [begin("polysemy", which), first, second, *self.tables[which].walk(draws, first, second, steps)]
        made = instance(tokens, range(3, len(tokens)), steps, bytes(tokens[:3]))
        made.latent_N[:] = which
        made.source_N[3:] = 0
        return made

    def exact(self, instance: Instance) -> np.ndarray:
        return self.tables[instance.latent_N[0]].exact(instance.token_N)


PART = Polysemy
