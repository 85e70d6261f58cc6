"""`lano`: strings of layered context-free grammars, each with a mark of its own.

    BEGIN_g  t_1 ... t_L  END                            the difficulty is the least that L may be; every token is an answer

A string is derived from the start of a grammar (`harness/data/grammar.py`) drawn for each instance; all grammars write the
same symbols. They belong to the task and not to a run. Training and the test of the first difficulty have strings of any
length. Beyond, the test has the longest ones: as long as one string in `LONG` or less. Training meets these too, but seldom.

The split is by the whole string with its mark. Latent: of the first grammar's strings alone, since nothing makes a symbol of
one grammar like one of another, the symbol of the middle level that the token comes from; it need not follow from the tokens
so far. `exact` is the distribution of the grammar that the mark names.
"""

import numpy as np

from harness.data.draws import Draws
from harness.data.grammar import Grammar, grammar
from harness.data.instances import Instance, instance
from harness.data.task import Known
from harness.data.vocabulary import END, SIZE, begin
from harness.plan.parts.task.lano import Keys

LONG = 10


class Lano(Known):
    def __init__(self, keys: Keys):
        super().__init__(keys)
        self.grammars = [grammar(keys.depth, keys.symbols, keys.degree, number) for number in range(keys.grammars)]
        self.latents = keys.symbols
        self.level = keys.depth // 2
        shares = np.zeros(keys.longest(0))  # of the lengths of all grammars' strings
        for one in self.grammars:
            found = one.lengths()
            shares[: len(found)] += found / keys.grammars
        reached = np.cumsum(shares[::-1])[::-1]  # of this length and more
        long = int(np.flatnonzero(reached >= 1 / LONG)[-1])
        self.beyond = (long,) if long > self.trained[-1] else ()
        self._longest = int(np.flatnonzero(shares)[-1]) + 2
        at_random = (keys.symbols + 1.0) ** -(np.arange(len(shares)) + 1)  # symbols and END, each as often
        self.guess = float(shares @ at_random)

    def longest(self, difficulty: int) -> int:
        return self._longest

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        least = self.trained[0] if difficulty is None else difficulty
        while True:
            number = draws.below(self.keys.grammars)
            string, origin = self.grammars[number].derive(draws, self.level)
            if len(string) >= least:
                break
        tokens = [begin("lano", number), *string, END]
        made = instance(tokens, range(1, len(tokens)), least)
        if number == 0:
            made.latent_N[1:-1] = origin
        return made

    def exact(self, instance: Instance) -> np.ndarray:
        tokens = instance.token_N.tolist()
        exact_NV = np.full((len(tokens), SIZE), np.nan)
        exact_NV[1:] = 0.0
        following = self._of(tokens[0]).following(tokens[1:-1])
        exact_NV[1:, : self.keys.symbols], exact_NV[1:, END] = following[:, :-1], following[:, -1]
        return exact_NV

    def _of(self, mark: int) -> Grammar:
        return self.grammars[mark - begin("lano")]


PART = Lano
