"""Toy tasks and hand-made models for the tests of scores on tasks: answers are certain, drawn, or of several right orders."""

import math

import numpy as np
import torch

from harness.data.instances import instance
from harness.data.task.copy import Copy
from harness.data.vocabulary import ANSWER, BEGINS, END, QUERY, SIZE
from harness.plan.parts.task.copy import Keys


def copying(length=3, symbols=8):
    return Copy(Keys(length=length, gap=2, symbols=symbols))


class Orders:
    """BEGIN s_1 ... s_n ANSWER, then the n symbols in any order and END: the instance's own is theirs. The difficulty is n."""

    trained, beyond, latents, guess = (2, 3), (4,), 0, 0.0

    def draw(self, draws, difficulty):
        symbols = draws.some(40, difficulty or draws.one_of(self.trained))
        n = len(symbols)
        return instance([BEGINS + 2, *symbols, ANSWER, *symbols, END], range(n + 2, 2 * n + 3), n, bytes(symbols))

    def longest(self, difficulty):
        return 2 * difficulty + 3

    def right(self, instance, written):
        asked = instance.token_N[1 : instance.difficulty + 1].tolist()
        return written[-1:].tolist() == [END] and sorted(written[:-1].tolist()) == sorted(asked)

    def exact(self, instance):
        return None


class Coins:
    """BEGIN n x QUERY ..., then n symbols, each 1 with 3/4 and 0 with 1/4: nobody can be certain. The difficulty is n."""

    trained, beyond, latents, guess = (4,), (9,), 0, 0.0
    share = 0.75
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)

    def draw(self, draws, difficulty):
        n, noise = difficulty or 4, [draws.below(100) for _ in range(4)]
        tokens = [BEGINS + 4, *noise, QUERY, *(int(draws.share() < self.share) for _ in range(n))]
        return instance(tokens, range(6, 6 + n), n, bytes(noise))

    def longest(self, difficulty):
        return 6 + difficulty

    def right(self, instance, written):
        return None

    def exact(self, instance):
        exact_NV = np.full((len(instance.token_N), SIZE), np.nan)
        exact_NV[instance.answer_N] = 0.0
        exact_NV[instance.answer_N, :2] = 1 - self.share, self.share
        return exact_NV


class Known:
    """A model that knows what follows each of some beginnings, and nothing of all others."""

    context = 64

    def __init__(self, decodes=True):
        self.decodes, self.shares, self.asked = decodes, {}, []

    @classmethod
    def perfect(cls, test, decodes=True, order=lambda symbols: symbols[::-1]):
        """Of all that is asked; `order`: what it writes where several orders are right."""
        model = cls(decodes)
        for one in test.asked:
            model.learn(one.instance, test.tasks[one.name].exact(one.instance))
            if isinstance(test.tasks[one.name], Orders):
                n = one.difficulty
                answers = [*order(one.instance.token_N[1 : n + 1].tolist()), END]
                model.learn(one.instance._replace(token_N=np.array([*one.instance.token_N[: n + 2], *answers], np.uint8)))
        return model

    def learn(self, instance, exact_NV=None):
        for at in np.flatnonzero(instance.answer_N):
            certain = np.eye(SIZE)[instance.token_N[at]]
            self.shares[tuple(instance.token_N[:at].tolist())] = certain if exact_NV is None else exact_NV[at]

    def logits(self, token_BS, cache=None):
        assert cache is None or self.decodes
        whole = token_BS
        if cache is not None:
            before = cache.get(self)
            whole = token_BS if before is None else torch.cat((before[0], token_BS), 1)
            cache.put(self, whole)
            cache.length += token_BS.shape[1]
        self.asked.append(tuple(token_BS.shape))
        assert whole.shape[1] <= self.context
        first, uniform = whole.shape[1] - token_BS.shape[1], np.full(SIZE, 1 / SIZE)
        rows = whole.tolist()
        share = np.array([[self.shares.get(tuple(row[: at + 1]), uniform) for at in range(first, len(row))] for row in rows])
        return torch.from_numpy(np.log(np.maximum(share, 1e-30))).float()
