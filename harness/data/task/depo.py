"""`depo`: k hops along a cycle whose edges are listed in random order.

    BEGIN  a b  c d  b c ...   QUERY ... QUERY  a  ANSWER  d   ...      k times QUERY: k hops from a; the difficulty is k

Entities are words: up to `word` symbols, the last one of a second alphabet, so that it ends the word. Each edge (word, next
word) of a random cycle is listed once. Then come queries from different starts. The answer is the target word alone. An
instance of training has 3 to `entities` entities (N), n of them with weight 1 / (n + sqrt(N)) as in Depo of "Physics of
Language Models: Part 4.1", up to `queries` queries, and each asks up to `hops` hops, fewer than would lead back to the start;
the test's have N entities and one query. Hops are counted by repeated marks and not by a number, since a number that training
never shows would mean nothing beyond it.

The split is by the cycle: training never shows one of the test's, in whatever order and whatever is asked. Latent: at ANSWER,
of two hops and more, the first symbol of the word before the target, which is reached on the way and written nowhere in the
answer. Source: of a symbol of the target, where it stands in the edge that leads to it.
"""

from collections.abc import Sequence
from math import sqrt

from harness.data.draws import Draws
from harness.data.instances import Instance, instance
from harness.data.task import Known
from harness.data.vocabulary import ANSWER, QUERY, begin
from harness.plan.parts.task.depo import Keys

FEWEST = 3  # entities

Word = tuple[int, ...]


class Depo(Known):
    def __init__(self, keys: Keys):
        super().__init__(keys)
        self.latents = 2 * keys.symbols
        self.guess = 1 / (keys.entities - 1)  # any word but the start
        self.cumulative: list[float] = []  # weights of FEWEST entities and more
        for n in range(FEWEST, keys.entities + 1):
            self.cumulative.append(1 / (n + sqrt(keys.entities)) + (self.cumulative[-1] if self.cumulative else 0.0))

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        trains, most = difficulty is None, self.keys.entities
        n = FEWEST + draws.weighted(self.cumulative) if trains else most
        words = self._words(draws, n)
        tokens, child_at = [begin("depo")], [0] * n
        for edge in draws.some(n, n):
            tokens += words[edge]
            child_at[(edge + 1) % n] = len(tokens)
            tokens += words[(edge + 1) % n]
        answers, sources, latents, hardest = [], [], [], 0
        for start in draws.some(n, min(n, self.keys.queries) if trains else 1):
            hops = draws.between(1, min(self.keys.hops, n - 1)) if trains else difficulty
            target = (start + hops) % n
            tokens += [*[QUERY] * hops, *words[start], ANSWER]
            if hops > 1:
                latents.append((len(tokens) - 1, words[target - 1][0]))
            for i, symbol in enumerate(words[target]):
                answers.append(len(tokens))
                sources.append(child_at[target] + i)
                tokens.append(symbol)
            hardest = max(hardest, hops)
        made = instance(tokens, answers, hardest, _name(words))
        made.source_N[answers] = sources
        for at, state in latents:
            made.latent_N[at] = state
        return made

    def _words(self, draws: Draws, n: int) -> list[Word]:
        """Different ones, each as long as any other length as often."""
        m, found = self.keys.symbols, {}
        while len(found) < n:
            before = [draws.below(m) for _ in range(draws.below(self.keys.word))]
            found[(*before, m + draws.below(m))] = None
        return list(found)


def _name(words: Sequence[Word]) -> bytes:
    """The same for a cycle wherever it begins."""
    first = words.index(min(words))
    return b"".join(map(bytes, (*words[first:], *words[:first])))


PART = Depo
