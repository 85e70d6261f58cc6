"""Rows of tasks: each of one task, made of whole instances from its first place on, the last one cut off at its end.

Tasks differ in how many of their tokens are answers. So that scored tokens have the shares that the plan asks, a row is drawn
to be of a task with probability share / density, where density is the task's answers per token in rows of a fixed sample.

Letters: S tokens of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import Any, NamedTuple, Self

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import Task, drawn
from harness.errors import UserError
from harness.plan import parts
from harness.plan.tasks import rows_of_val

SAMPLE_ROWS = 32  # of each task: their answers per token are known to a few percent


class Row(NamedTuple):
    """`token_S` uint8. `answer_S` bool: which are answers; the first one never is. `instance_S` int64: which instance of the
    row each token is of, from 0."""

    token_S: np.ndarray
    answer_S: np.ndarray
    instance_S: np.ndarray


def row_of(task: Task, draws: Draws, length: int, test: bool) -> Row:
    """A row of the test's instances or of training's, of training's mix of difficulties."""
    made, held = [], 0
    while held < length:
        made.append(drawn(task, draws, None, test))
        held += len(made[-1].token_N)
    lengths = [len(one.token_N) for one in made]
    token_S, answer_S = (np.concatenate(part)[:length] for part in zip(*((one.token_N, one.answer_N) for one in made)))
    return Row(token_S, answer_S, np.repeat(np.arange(len(made), dtype=np.int64), lengths)[:length])


class Sample(NamedTuple):
    density: float  # answers per token
    sha256: str  # of its tokens and of which are answers


@dataclass(frozen=True)
class Mix:
    """The tasks of a plan, in its order, and how often a row of training is of each. `shares`: of the scored tokens, summing
    to 1."""

    tasks: dict[str, Task]
    shares: dict[str, float]
    samples: dict[str, Sample]
    length: int

    @classmethod
    def of(cls, names: Sequence[str], shares: Sequence[float], section: Any, length: int) -> Self:
        """`section`: a plan's `task`. No shares: the same of each."""
        keys = {name: getattr(section, name, None) for name in names}
        tasks = {name: parts.part("task", name)(keys[name]) for name in names}
        given = list(shares) or [1.0] * len(names)
        samples = {name: _sample(name, task, keys[name], length) for name, task in tasks.items()}
        return cls(tasks, {name: share / sum(given) for name, share in zip(names, given)}, samples, length)

    @property
    def of_rows(self) -> dict[str, float]:
        """The share of each task among training's rows."""
        wanted = {name: share / self.samples[name].density for name, share in self.shares.items()}
        return {name: each / sum(wanted.values()) for name, each in wanted.items()}

    @property
    def density(self) -> float:
        """Answers per token of training."""
        return sum(share * self.samples[name].density for name, share in self.of_rows.items())

    def row(self, seed: int, number: int) -> Row:
        """Row `number` of training, counted from its start."""
        draws = Draws(seed, "tasks", "row", number)
        name = list(self.tasks)[draws.weighted(list(accumulate(self.of_rows.values())))]
        return row_of(self.tasks[name], draws, self.length, test=False)

    def val(self, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """(uint8 tokens, bool which are answers) of as many rows of the test as so many tokens hold, one at least, joined, and
        of one token more, which is the last target. Whatever the shares, no task has more answers than another by more than a
        row's: the next row is of the task that has the fewest. Neither the seed of a run nor the order of tasks is in it."""
        rows, answers = [], dict.fromkeys(sorted(self.tasks), 0)
        made = dict.fromkeys(answers, 0)
        for _ in range(rows_of_val(tokens, self.length)):
            name = min(answers, key=answers.__getitem__)
            rows.append(row_of(self.tasks[name], Draws(0, "tasks", "val", name, made[name]), self.length, test=True))
            made[name] += 1
            answers[name] += int(rows[-1].answer_S.sum())
        tokens_N, answer_N = (np.concatenate([*part, part[0][:1]]) for part in list(zip(*rows))[:2])
        return tokens_N, answer_N


_SAMPLES: dict[tuple[str, str, int], Sample] = {}  # only speed: a run loads its data more than once


def _sample(name: str, task: Task, keys: Any, length: int) -> Sample:
    """It is of rows of training, the same in every run. Raises: UserError where they hold nothing to learn."""
    known = (name, repr(keys), length)
    if known not in _SAMPLES:
        draws, digest, answers = Draws(0, "tasks", "density", name), sha256(), 0
        for _ in range(SAMPLE_ROWS):
            row = row_of(task, draws, length, test=False)
            digest.update(row.token_S.tobytes() + row.answer_S.tobytes())
            answers += int(row.answer_S.sum())
        if not answers:
            raise UserError(
                f"no instance of task {name} has an answer within a row of {length} tokens",
                "set more model.sequence_length, or make the task easier",
            )
        _SAMPLES[known] = Sample(answers / (SAMPLE_ROWS * length), digest.hexdigest())
    return _SAMPLES[known]
