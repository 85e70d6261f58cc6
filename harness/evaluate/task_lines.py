"""What is known of a plan's tasks without a network: the lines that their scores stand beside."""

import hashlib
from dataclasses import asdict
from functools import partial
from typing import Any

from harness.data import counted
from harness.data.artifact import derived
from harness.data.draws import Draws
from harness.data.instances import drawn
from harness.plan import parts
from harness.plan.schema import Plan

SAMPLE = 64  # instances that tell generators apart
NAMES = {"chance": "chance", "bayes": "Bayes optimum"}


def counted_lines(plan: Plan) -> dict[str, Any]:
    """`harness.data.counted.lines` of each task of a plan, by name. It takes seconds the first time."""
    return {name: _counted(name, parts.keys_of(plan, "task", name)) for name in plan.data.tasks}


def _counted(name: str, keys: Any) -> dict[str, Any]:
    """Kept in the cache: by what is asked for, how it is computed, and what the generator makes now."""
    how = {"method": counted.METHOD, "instances": counted.TRAINING, "tests": counted.TESTS}
    key = {"task": name, "keys": asdict(keys), "sample": _sample(name, keys), **how}
    return derived("task-lines", key, partial(counted.lines, name, keys))


def _sample(name: str, keys: Any) -> str:
    task, draws, digest = parts.part("task", name)(keys), Draws(0, "tasks", "sample", name), hashlib.sha256()
    for _ in range(SAMPLE):
        one = drawn(task, draws, None, False)
        exact_NV = task.exact(one)
        for part in (one.token_N, one.answer_N, *([] if exact_NV is None else [exact_NV])):
            digest.update(part.tobytes())
    return digest.hexdigest()


def task_lines(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What of `counted_lines` a record holds and a figure shows: rows of `task`, `name`, `measure` and `levels` by difficulty.
    Where an answer is not certain, divergences; else shares of whole answers, of which chance is known at one difficulty."""
    rows = []
    for task, of_task in found.items():
        uncertain = any(row["bayes"]["nats"] for row in of_task["rows"])
        measure, field = ("kl", "kl") if uncertain else ("exact_match", "whole")
        for name, scores in _by_name(of_task["rows"]).items():
            levels = {str(row["difficulty"]): score[field] for row, score in zip(of_task["rows"], scores)}
            if name == NAMES["chance"] and not uncertain:
                hardest = max(row["difficulty"] for row in of_task["rows"] if row["trained"])
                levels = {str(hardest): of_task["guess"]}
            levels = {difficulty: level for difficulty, level in levels.items() if level is not None}
            if levels:
                rows.append({"task": task, "name": name, "measure": measure, "levels": levels})
    return rows


def _by_name(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Scores at each difficulty."""
    known = {name: [row[key] for row in rows] for key, name in NAMES.items()}
    orders = zip(*(row["counted"] for row in rows))
    return known | {f"{scores[0]['order']}-gram": list(scores) for scores in orders}
