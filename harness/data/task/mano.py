"""`mano`: a prefix expression of sums, differences and products modulo `modulus`, and its value.

    BEGIN  - + 3 x 5 20 7  ANSWER  19                                    the difficulty is the number of operations

Of d operations the first is the root's; 0 to d - 1 of the others, each number as often, are its left side's. Operators and
leaves are drawn uniformly (Mano of "Physics of Language Models: Part 4.1").

The split is by the expression: an eighth of all single sums, differences and products is never a question of training, but
stands in longer ones. Latent: at the last token of each subexpression of one operation or more, the value of the longest one
that it closes.
"""

from functools import cached_property

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import NONE, Instance, instance
from harness.data.task import Known
from harness.data.vocabulary import ANSWER, NUMBERS, OPERATORS, begin
from harness.plan.parts.task.mano import Keys


class Mano(Known):
    def __init__(self, keys: Keys):
        super().__init__(keys)
        self.latents = keys.modulus

    @cached_property
    def guess(self) -> float:
        """Of who always writes the likeliest value, which is 0."""
        p, operations = self.keys.modulus, self.trained[-1]
        a, b = np.divmod(np.arange(p * p), p)
        value = np.concatenate([a + b, a - b, a * b]) % p
        shares = np.full((operations + 1, p), 1 / p)  # of each value, by operations
        for d in range(1, operations + 1):
            both = shares[:d].T @ shares[:d][::-1] / d  # of a to the left and b to the right, wherever the split is
            shares[d] = np.bincount(value, np.tile(both.ravel(), len(OPERATORS))) / len(OPERATORS)
        return float(shares[-1].max())

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        operations = self.chosen(draws, difficulty)
        tokens, closed = [begin("mano")], [NONE]
        value = self._write(draws, operations, tokens, closed)
        question = bytes(tokens)
        tokens += [ANSWER, NUMBERS + value]
        made = instance(tokens, [len(tokens) - 1], operations, question)
        made.latent_N[:-2] = closed
        return made

    def _write(self, draws: Draws, operations: int, tokens: list[int], closed: list[int]) -> int:
        """Appends an expression, and to `closed` what its tokens close; its value."""
        closed.append(NONE)
        if not operations:
            value = draws.below(self.keys.modulus)
            tokens.append(NUMBERS + value)
            return value
        operator, left = draws.below(len(OPERATORS)), draws.below(operations)
        tokens.append(OPERATORS[operator])
        a = self._write(draws, left, tokens, closed)
        b = self._write(draws, operations - 1 - left, tokens, closed)
        value = (a + b, a - b, a * b)[operator] % self.keys.modulus
        closed[-1] = value
        return value


PART = Mano
