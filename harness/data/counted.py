"""What can be known of a task without a network, on the instances that every run's test asks (`lines`).

Chance: every token that is ever an answer, each as often. The Bayes optimum: the task's exact distributions; of a task without
them whose answers follow from the question, zero nats. And counted n-grams of order 2 to 10, interpolated by Witten and Bell
as `harness/data/ngram.py` says, with three differences: they predict answers alone, a context never leaves its instance, and
every context knows the mark that the instance begins with, since a mark says which grammar or which map. P_{-1} is uniform
over the tokens that are ever answers. They give whole distributions, so that KL from the exact one can be taken.

Letters: I instances, M answers, T tokens of all instances, A tokens that are ever answers.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import Instance, Task, drawn
from harness.data.vocabulary import SIZE
from harness.plan import parts

ORDERS = range(2, 11)
TRAINING = 16384  # instances of training that are counted
TESTS = 256  # of each difficulty
METHOD = 1  # part of the cache key: raise it when a figure is computed in another way


class Answers(NamedTuple):
    """All answers of some instances. `place_M`: in `token_T`; `within_M`: in the instance, whose first token is `mark_M`."""

    token_T: np.ndarray
    place_M: np.ndarray
    within_M: np.ndarray
    mark_M: np.ndarray
    instance_M: np.ndarray

    @property
    def answer_M(self) -> np.ndarray:
        return self.token_T[self.place_M]


class Scores(NamedTuple):
    """`nats` and `kl` are means over answers, `accuracy` is the share of answers that are the likeliest token (the lowest id on
    ties), `whole` of instances all of whose answers are. None: not known, or, of `whole`, not what the task is judged by."""

    nats: float | None
    kl: float | None
    accuracy: float | None
    whole: float | None


def lines(name: str, keys: Any) -> dict[str, Any]:
    """JSON data. `guess`: whole answers of a guesser at the hardest difficulty of training; `rows`: by difficulty, `chance`,
    `bayes` and `counted`, a row an order, each the fields of `Scores`. It takes seconds: `harness.data.artifact.derived`."""
    task = parts.part("task", name)(keys)
    difficulties = (*task.trained, *task.beyond)
    draws = Draws(0, "tasks", "counted", name)
    train = answers([drawn(task, draws, None, False) for _ in range(TRAINING)])
    asked = {difficulty: list(drawn_test(name, task, difficulty, TESTS)) for difficulty in difficulties}
    instances = [instance for of_one in asked.values() for instance in of_one]
    test, exact_MV = answers(instances), _exact(task, instances)
    ever = np.union1d(train.answer_M, test.answer_M)
    if exact_MV is not None:
        ever = np.union1d(ever, np.flatnonzero(exact_MV.any(0)))
    exact_MA = None if exact_MV is None else exact_MV[:, ever]
    judged = task.right(instances[0], instances[0].token_N[instances[0].answer_N]) is not None
    measure = Measure(test, np.searchsorted(ever, test.answer_M), exact_MA, judged)
    difficulty_M = np.repeat(difficulties, TESTS)[test.instance_M]
    rows = [
        {"difficulty": difficulty, "trained": difficulty in task.trained, "tests": TESTS, "counted": []}
        for difficulty in difficulties
    ]
    for row in rows:
        here_M = difficulty_M == row["difficulty"]
        row["chance"] = measure(np.full((len(here_M), len(ever)), 1 / len(ever)), here_M)._asdict()
        row["bayes"] = _bayes(measure, here_M)._asdict()
    for order, probability_MA in distributions(train, test, ever):
        for row in rows:
            scores = measure(probability_MA, difficulty_M == row["difficulty"])
            row["counted"].append({"order": order, **scores._asdict()})
    return {"instances": TRAINING, "guess": task.guess, "rows": rows}


def drawn_test(name: str, task: Task, difficulty: int, count: int) -> Iterator[Instance]:
    """The first instances of the test of a difficulty, the same for every run."""
    for number in range(count):
        yield drawn(task, Draws(0, "tasks", "test", name, difficulty, number), difficulty, True)


def answers(instances: Sequence[Instance]) -> Answers:
    length_I = np.array([len(one.token_N) for one in instances])
    start_I = np.cumsum(length_I) - length_I
    token_T = np.concatenate([one.token_N for one in instances]).astype(np.int64)
    place_M = np.flatnonzero(np.concatenate([one.answer_N for one in instances]))
    instance_M = np.searchsorted(start_I, place_M, "right") - 1
    start_M = start_I[instance_M]
    return Answers(token_T, place_M, place_M - start_M, token_T[start_M], instance_M)


def distributions(train: Answers, test: Answers, ever_A: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(order, fp64 (M, A) of the test's answers) of models counted on `train`, in turn. The array is changed by the next one.

    Contexts are renumbered as they grow to the left, and an answer of train whose context the test does not have is dropped
    at the first order where it has none.
    """
    size, answer_M = len(ever_A), np.searchsorted(ever_A, train.answer_M)
    probability_MA = np.full((len(test.place_M), size), 1 / size)
    own, own_context = np.arange(len(test.place_M)), test.mark_M
    seen, seen_context = np.arange(len(train.place_M)), train.mark_M
    for order in range(1, ORDERS[-1] + 1):
        if order > 1:
            own, own_context = _longer(test, own, own_context, order - 1)
            seen, seen_context = _longer(train, seen, seen_context, order - 1)
        contexts, own_context = np.unique(own_context, return_inverse=True)
        hit = np.isin(seen_context, contexts)
        seen, seen_context = seen[hit], np.searchsorted(contexts, seen_context[hit])
        counts = np.bincount(seen_context * size + answer_M[seen], minlength=len(contexts) * size).reshape(-1, size)
        count, distinct = counts.sum(1), (counts > 0).sum(1)
        known = count[own_context] > 0
        at, rows = own_context[known], own[known]
        shorter = probability_MA[rows]
        probability_MA[rows] = (counts[at] + distinct[at, None] * shorter) / (count + distinct)[at, None]
        if order in ORDERS:
            yield order, probability_MA


def _longer(of: Answers, which: np.ndarray, context: np.ndarray, back: int) -> tuple[np.ndarray, np.ndarray]:
    """Those answers that have a token so far back in their instance, and their contexts with it."""
    there = of.within_M[which] >= back
    which = which[there]
    return which, context[there] * SIZE + of.token_T[of.place_M[which] - back]


class Measure(NamedTuple):
    """What judges distributions of the test's answers. `answer_M`: as columns of A; `judged`: the task
    judges what is written, so that being the likeliest token does not decide."""

    test: Answers
    answer_M: np.ndarray
    exact_MA: np.ndarray | None
    judged: bool

    def __call__(self, probability_MA: np.ndarray, here_M: np.ndarray) -> Scores:
        """Of the answers that `here_M` has."""
        probability, answer = probability_MA[here_M], self.answer_M[here_M]
        nats = -np.log(np.take_along_axis(probability, answer[:, None], 1))
        hit = probability.argmax(1) == answer
        kl = None
        if self.exact_MA is not None:
            exact = self.exact_MA[here_M]
            ratio = np.divide(exact, probability, out=np.ones_like(exact), where=exact > 0)
            kl = float((exact * np.log(ratio)).sum(1).mean())
        instances, at = np.unique(self.test.instance_M[here_M], return_inverse=True)
        missed = np.bincount(at, ~hit, len(instances))
        whole = None if self.judged else float((missed == 0).mean())
        return Scores(float(nats.mean()), kl, float(hit.mean()), whole)


def _bayes(measure: Measure, here_M: np.ndarray) -> Scores:
    """Its nats are the mean entropy of the exact distributions, not those of the answers that happened to be drawn."""
    if measure.exact_MA is None:
        return Scores(None, None, None, 1.0) if measure.judged else Scores(0.0, None, 1.0, 1.0)
    exact = measure.exact_MA[here_M]
    entropy = -(exact * np.log(exact, out=np.zeros_like(exact), where=exact > 0)).sum(1)
    likeliest = measure(measure.exact_MA, here_M)
    return Scores(float(entropy.mean()), 0.0, float(exact.max(1).mean()), likeliest.whole)


def _exact(task: Task, instances: Sequence[Instance]) -> np.ndarray | None:
    """fp64 (M, V)."""
    if task.exact(instances[0]) is None:
        return None
    return np.concatenate([task.exact(one)[one.answer_N] for one in instances])
