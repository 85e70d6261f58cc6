"""Tasks with known answers, generated: a file each, a pure function of (seed, what for, number), no files read.

An instance is a question with its answers, written in the one vocabulary of `vocabulary.py`. Every task begins its instances
with a mark of its own. An instance belongs to training or to the test by the hash of its `question` (`is_test`), so that the
two never share one, whatever the seeds.

Letters: N tokens of an instance, V vocabulary.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import numpy as np

from harness.data.draws import Draws

TEST_SHARE = 8  # one in so many questions belongs to the test
NONE = -1  # in `latent_N` and `source_N`


class Instance(NamedTuple):
    """`token_N` uint8. `answer_N` bool: tokens that are answers, which alone are scored; the first token never is one.
    `latent_N` int16: the state of the task once the token was read (state of the cycle, partial result, symbol of the grammar),
    NONE where it has none. `source_N` int16: of an answer, where in the instance the token stands that decides it (the nearest
    single one), NONE where no single one does. `question`: what tells instances apart. `difficulty`: of this instance."""

    token_N: np.ndarray
    answer_N: np.ndarray
    latent_N: np.ndarray
    source_N: np.ndarray
    question: bytes
    difficulty: int


class Task(Protocol):
    """`PART` of each file. `keys`: its section of the plan."""

    trained: tuple[int, ...]  # difficulties of training, ascending: the last is the hardest
    beyond: tuple[int, ...]  # harder ones, which only the test asks
    latents: int  # states that `latent_N` counts; 0 of a task without
    guess: float  # how often a guesser who knows the task's form and nothing else has a whole answer, at `trained[-1]`

    def __init__(self, keys: Any): ...

    def draw(self, draws: Draws, difficulty: int | None) -> Instance:
        """One instance, of the test's distribution for a difficulty, or for None of training's mix of difficulties. Whether it
        belongs to the test is not asked here."""
        ...

    def longest(self, difficulty: int) -> int:
        """Tokens of the longest instance."""
        ...

    def right(self, instance: Instance, written: np.ndarray) -> bool | None:
        """Whether tokens `written` in place of all answers after the first one's place are right; None of a task whose only
        right answer is the instance's own."""
        ...

    def exact(self, instance: Instance) -> np.ndarray | None:
        """fp64 (N, V): the exact distribution of each token given those before it; None where nobody needs it. Rows of tokens
        that are no answers are NaN."""
        ...


def is_test(question: bytes) -> bool:
    """Whether a question belongs to the test, by its hash alone."""
    return blake2b(question, digest_size=8, person=b"speedrun-tasks").digest()[0] % TEST_SHARE == 0


def drawn(task: Task, draws: Draws, difficulty: int | None, test: bool) -> Instance:
    """The first instance that belongs to the test, or to training."""
    while True:
        instance = task.draw(draws, difficulty)
        if is_test(instance.question) == test:
            return instance


def instance(tokens: Iterable[int], answers: Iterable[int], difficulty: int, question: bytes | None = None) -> Instance:
    """Without latents. `answers`: which tokens are; `question`: by default all tokens."""
    token_N = np.fromiter(tokens, np.uint8)
    answer_N, none = np.zeros(len(token_N), bool), np.full(len(token_N), NONE, np.int16)
    answer_N[list(answers)] = True
    return Instance(token_N, answer_N, none, none.copy(), token_N.tobytes() if question is None else question, difficulty)
