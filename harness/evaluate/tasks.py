"""What a model knows of the tasks of its plan: for each difficulty, of training and beyond, how many of the test's instances
it answers right as a whole, nats per answer, and how far its distributions are from exact ones.

Test instance i of difficulty d is drawn by (task, d, i) alone, so it is the same for every run, and every instance is answered
by itself: nothing but rounding depends on what else is asked. Letters: I instances.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.data.counted import drawn_test
from harness.data.instances import Instance, Task
from harness.data.vocabulary import END
from harness.errors import UserError
from harness.evaluate.answering import Answering, Reading, batches, read, write
from harness.evaluate.kept import Kept
from harness.evaluate.ratio import ratio
from harness.interval import wilson
from harness.plan import parts
from harness.plan.schema import Plan

PROTOCOL = "tasks-v1"
INSTANCES = 256  # of each difficulty


class Asked(NamedTuple):
    """One instance of the test."""

    name: str
    difficulty: int
    instance: Instance


# By (whether it was written, its place in `Test.asked`): a reading, or whether what was written is right.
Answers = dict[tuple[bool, int], Reading | bool]


class Chunk(NamedTuple):
    """What is answered at once: places among all that is asked. `writes`: the model writes, else it reads."""

    writes: bool
    places: tuple[int, ...]


class Test:
    """All that tasks, by name, ask of a model of this context, so many `instances` of each difficulty. `left_out`: difficulties
    that it cannot read, a sentence each.

    Raises:
        UserError: it can read none.
    """

    __test__ = False  # pytest would collect it by its name

    def __init__(self, tasks: Mapping[str, Task], context: int, instances: int):
        self.tasks, self.context, self.instances = tasks, context, instances
        self.asked: list[Asked] = []
        self.left_out: list[str] = []
        for name, task in self.tasks.items():
            for difficulty in (*task.trained, *task.beyond):
                if (longest := task.longest(difficulty)) - 1 > context:
                    self.left_out.append(f"{name} of {difficulty}: up to {longest} tokens, the model reads {context}")
                else:
                    self.asked += [Asked(name, difficulty, one) for one in drawn_test(name, task, difficulty, instances)]
        if not self.asked:
            why = "; ".join(self.left_out) or "there are none"
            raise UserError(f"no task can be scored: {why}", "choose a longer model.sequence_length, or easier tasks")

    @cached_property
    def chunks(self) -> list[Chunk]:
        """The order in which ranks take turns."""
        writing = [place for place, one in enumerate(self.asked) if one.name in self.written]
        lengths = [(one.name, len(one.instance.token_N)) for one in self.asked]
        prompts = [(self.asked[place].name, first_answer(self.asked[place].instance)) for place in writing]
        found = [Chunk(False, tuple(places)) for places in batches(lengths, lambda length: length[1])]
        at_once = batches(prompts, lambda prompt: prompt[1])
        return found + [Chunk(True, tuple(writing[at] for at in places)) for places in at_once]

    @cached_property
    def written(self) -> set[str]:
        """Tasks that have other right answers than the instance's own, so that the model must write one."""
        firsts = {one.name: one.instance for one in reversed(self.asked)}
        return {
            name
            for name, instance in firsts.items()
            if self.tasks[name].right(instance, instance.token_N[first_answer(instance) :]) is not None
        }

    @cached_property
    def longest_answer(self) -> dict[tuple[str, int], int]:
        """Tokens of the longest, by task and difficulty: what is longer is wrong, whatever it says."""
        found: dict[tuple[str, int], int] = defaultdict(int)
        for one in self.asked:
            length = len(one.instance.token_N) - first_answer(one.instance)
            found[one.name, one.difficulty] = max(found[one.name, one.difficulty], length)
        return found

    @property
    def sha256(self) -> str:
        """The hash of every token that is asked and answered."""
        digest = hashlib.sha256()
        for one in self.asked:
            digest.update(repr((one.name, one.difficulty, len(one.instance.token_N))).encode())
            digest.update(one.instance.token_N.tobytes() + one.instance.answer_N.tobytes())
        return digest.hexdigest()


def tasks_of(plan: Plan) -> dict[str, Task]:
    return {name: parts.part("task", name)(parts.keys_of(plan, "task", name)) for name in plan.data.tasks}


def first_answer(instance: Instance) -> int:
    return int(np.argmax(instance.answer_N))


def kept(path: Path, of: str) -> Kept[Chunk, Reading | bool]:
    """Answers to tasks, kept while they are scored."""
    return Kept(path, of, lambda chunk, answers: {"chunk": chunk, "answers": answers}, _of_json)


def _of_json(entry: Any) -> tuple[Chunk, list[Reading | bool]]:
    writes, places = entry["chunk"]
    return Chunk(writes, tuple(places)), entry["answers"] if writes else [Reading(*one) for one in entry["answers"]]


def share(
    model: Answering, test: Test, count: Callable[[int, int], None], rank: int = 0, world: int = 1,
    known: Mapping[Chunk, Sequence[Reading | bool]] | None = None,
    keep: Callable[[Chunk, Sequence[Reading | bool]], None] = lambda chunk, answers: None,
) -> Answers:  # fmt: skip
    """This rank's answers: those of chunks rank, rank + world, ... `count(done, total)`: instances read and written. `known`:
    answers of these very weights that are not asked for again; `keep` is given the others.

    Raises:
        UserError: the model's nats are not finite.
    """
    found: Answers = {}
    own = test.chunks[rank::world]
    total = sum(len(chunk.places) for chunk in own)
    for chunk in own:
        if (answers := (known or {}).get(chunk)) is None:
            asked = [test.asked[place] for place in chunk.places]
            answers = _written(model, test, asked) if chunk.writes else _read(model, test.tasks[asked[0].name], asked)
            keep(chunk, answers)
        found |= {(chunk.writes, place): one for place, one in zip(chunk.places, answers)}
        count(len(found), total)
    return found


def _read(model: Answering, task: Task, asked: Sequence[Asked]) -> list[Reading]:
    found = read(model, [one.instance for one in asked], task.exact)
    for one, reading in zip(asked, found):
        if not np.isfinite(reading.nats):
            raise UserError(
                f"the model gives an instance of {one.name} {reading.nats} nats",
                "its weights are damaged, or it overflows in this dtype",
            )
    return found


def _written(model: Answering, test: Test, asked: Sequence[Asked]) -> list[bool]:
    task, first = test.tasks[asked[0].name], first_answer(asked[0].instance)
    most = [test.longest_answer[one.name, one.difficulty] for one in asked]
    prompts = np.stack([one.instance.token_N[:first] for one in asked])
    written = write(model, prompts, most, END)
    return [bool(task.right(one.instance, tokens)) for one, tokens in zip(asked, written)]


def merge(shares: Sequence[Answers], test: Test) -> dict[str, Any]:
    """JSON data, of all ranks' shares: `scores`, a row a task and difficulty; `right`, for each of them "0" or "1" an
    instance."""
    answers = {key: answer for one in shares for key, answer in one.items()}
    assert len(answers) == sum(map(len, shares)) == sum(len(c.places) for c in test.chunks), "one is missing, or there twice"
    places: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place, one in enumerate(test.asked):
        places[one.name, one.difficulty].append(place)
    rows, right = [], {name: {} for name in test.tasks}
    for (name, difficulty), of_row in places.items():
        judged = [answers.get((True, place), answers[False, place].hits) for place in of_row]
        instances, readings = [test.asked[p].instance for p in of_row], [answers[False, p] for p in of_row]
        trained = difficulty in test.tasks[name].trained
        rows.append({"task": name, "difficulty": difficulty, "trained": trained, **_row(judged, instances, readings)})
        right[name][str(difficulty)] = "".join("01"[one] for one in judged)
    facts = {"protocol": PROTOCOL, "context": test.context, "sha256": test.sha256, "examples": len(test.asked)}
    part = f"partial: {test.instances} of {INSTANCES} instances of each difficulty" if test.instances < INSTANCES else None
    return {**facts, "partial": part, "left_out": test.left_out, "scores": rows, "right": right}


def _row(right: Sequence[bool], instances: Sequence[Instance], readings: Sequence[Reading]) -> dict[str, Any]:
    """`questions`: different ones among the instances. What is `_error` is a standard error over instances."""
    n, hits = len(right), sum(right)
    answers_I = np.array([int(one.answer_N.sum()) for one in instances])
    found = {
        "n": n, "questions": len({one.question for one in instances}), "right": hits, "exact_match": hits / n,
        "interval": list(wilson(hits, n)), "answers": int(answers_I.sum()),
    }  # fmt: skip
    for key in ("nats", "kl", "entropy"):
        if getattr(readings[0], key) is not None:
            mean, variance = ratio(np.array([getattr(reading, key) for reading in readings]), answers_I)
            found |= {key: float(mean)} | ({} if key == "entropy" else {f"{key}_error": float(np.sqrt(variance))})
    return found
