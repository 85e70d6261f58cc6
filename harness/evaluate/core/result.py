"""From answers to the CORE score, its interval, and whether two models differ.

centered = (accuracy - b) / (1 - b) with the task's baseline b; CORE is the plain mean over tasks. Bootstrap: examples are drawn
with replacement within each task, 10,000 times, tasks fixed; intervals are the middle 95%. An example is right or wrong, so a
resampled count of right ones is a binomial draw, and a resampled difference of two models a multinomial one: exactly the
bootstrap, without drawing examples. Draws are keyed by the task, so they depend neither on order nor on other tasks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.evaluate.core.score import Answer
from harness.evaluate.core.tasks import Task
from harness.keyed import generator

RESAMPLES = 10_000
SEED = 1
TAILS = (2.5, 97.5)  # percent


def result(tasks: Sequence[Task], answers: dict[str, list[Answer]], max_per_task: int | None = None) -> dict[str, Any]:
    """JSON data: `core_v1` (published figures use this baseline) and `core_v2` with `interval_v1` and `interval_v2`;
    `partial`, a sentence where not every example was scored, else None; `tasks`, in order, each with label, type, shots, n,
    correct, accuracy, baseline_v1, baseline_v2, centered_v1, centered_v2, and `interval` of centered_v1; `right`, for each
    label "0" or "1" per example in published order, which `paired` reads.

    Raises: UserError when a task has no answers, or not one for each example.
    """
    rows, drawn = [], {"v1": [], "v2": []}
    for task in tasks:
        found = answers.get(task.label, [])
        if [answer.index for answer in found] != list(range(task.count(max_per_task))) or not found:
            raise UserError(
                f"{task.label}: {len(found)} answers for {task.count(max_per_task)} examples", "no CORE without all"
            )
        row = _task_row(task, found)
        counts = generator(SEED, "CORE bootstrap", task.label).binomial(row["n"], row["accuracy"], RESAMPLES)
        for version in drawn:
            drawn[version].append(_centered(counts / row["n"], row[f"baseline_{version}"]))
        rows.append(row | {"interval": _interval(drawn["v1"][-1])})
    partial = any(task.count(max_per_task) < len(task.examples) for task in tasks)
    return {
        "core_v1": float(np.mean([row["centered_v1"] for row in rows])),
        "interval_v1": _interval(np.mean(drawn["v1"], axis=0)),
        "core_v2": float(np.mean([row["centered_v2"] for row in rows])),
        "interval_v2": _interval(np.mean(drawn["v2"], axis=0)),
        "partial": f"partial: the first {max_per_task} examples of each task at most" if partial else None,
        "tasks": rows,
        "right": {task.label: "".join("01"[answer.correct] for answer in answers[task.label]) for task in tasks},
    }


def paired(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """CORE (v1) of `a` minus that of `b`, two results of `result` on the same examples: {"difference", "interval",
    "excludes_zero"}. Only where the interval excludes zero may the two be ranked.

    Raises: UserError when they did not score the same examples.
    """
    counted = [[(row["label"], row["n"], row["baseline_v1"]) for row in one["tasks"]] for one in (a, b)]
    if counted[0] != counted[1]:
        raise UserError("two CORE results are not of the same examples", "score both with the same tasks and max_per_task")
    differences = []
    for label, n, baseline in counted[0]:
        right_N = [np.frombuffer(one["right"][label].encode(), np.uint8).astype(int) - ord("0") for one in (a, b)]
        assert len(right_N[0]) == len(right_N[1]) == n, label
        difference_N = right_N[0] - right_N[1]
        ahead, behind = (int((difference_N == sign).sum()) for sign in (1, -1))
        shares = [ahead / n, behind / n, (n - ahead - behind) / n]
        draws = generator(SEED, "CORE paired bootstrap", label).multinomial(n, shares, RESAMPLES)
        differences.append((draws[:, 0] - draws[:, 1]) / n / (1 - baseline))
    low, high = _interval(np.mean(differences, axis=0))
    return {
        "difference": float(np.mean([x["centered_v1"] - y["centered_v1"] for x, y in zip(a["tasks"], b["tasks"])])),
        "interval": [low, high],
        "excludes_zero": low > 0 or high < 0,
    }


def _task_row(task: Task, answers: Sequence[Answer]) -> dict[str, Any]:
    correct = sum(answer.correct for answer in answers)
    accuracy = correct / len(answers)
    return {
        "label": task.label, "type": task.type, "shots": task.shots, "n": len(answers), "correct": correct,
        "accuracy": accuracy, "baseline_v1": task.baseline_v1, "baseline_v2": task.baseline_v2,
        "centered_v1": _centered(accuracy, task.baseline_v1), "centered_v2": _centered(accuracy, task.baseline_v2),
    }  # fmt: skip


def _centered(accuracy: Any, baseline: float) -> Any:
    return (accuracy - baseline) / (1 - baseline)


def _interval(draws: np.ndarray) -> list[float]:
    return [float(x) for x in np.percentile(draws, TAILS)]
