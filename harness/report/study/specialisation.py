"""What a study says of the experts and the tasks of one run, of what `make inspect` found in it and of its scores.

The *specialisation* of a run for a task is what the experts chosen for its tokens tell of it (in nats: `harness/surprise.py`,
DeWeese and Meister 1999) less what they tell where tasks are shuffled among instances, the mean over MoE layers. It is 0 where
tokens of the task go where those of all tasks go. A run's *score* on a task is the mean over training's difficulties of exact
match, or, where not even the best answer is certain, of minus the KL from the exact distributions: more is better.
"""

from collections.abc import Iterator
from statistics import fmean

from harness.record.inspected import Inspected
from harness.record.results import LayerNumbers, TaskNumbers, TrialRouting
from harness.record.schema import Record
from harness.report.task_scores import TaskResult, by_task, scored


def layers(found: Inspected) -> list[LayerNumbers]:
    told, beyond_ids = ([row for row in found.routing if row.of == of] for of in ("task", "task-of-a-token"))
    return [
        LayerNumbers(
            layer=one.layer, told=one.information, shuffled=one.control[0], beyond_ids=two.information - two.control[0]
        )
        for one, two in zip(told, beyond_ids)
    ]


def specialisation(found: Inspected) -> dict[str, float]:
    """By task."""
    return {task: fmean(row.information - row.control[0] for row in rows) for task, rows in _by_task(found)}


def above(found: Inspected) -> dict[str, bool]:
    """By task: whether a layer tells of it with all of the interval above the control's. Those intervals hold together."""
    return {task: any(row.above for row in rows) for task, rows in _by_task(found)}


def called(found: Inspected) -> int:
    """How many experts are chosen for one task more than for the others, with all of the interval."""
    return sum(row.above for row in found.specialists)


def silenced(found: Inspected) -> tuple[float, float] | None:
    """Nats more per answer without an expert that is `called`, of its own task and of the others: means over such experts,
    each silenced by itself; None where there is none."""
    nats: dict[tuple[int, int], dict[str, float]] = {}
    for row in found.ablation.rows:
        nats.setdefault((row.layer, row.expert), {})[row.task] = row.nats
    own, others = [], []
    for row in found.specialists:
        of_task = nats.get((row.layer, row.expert), {})
        if row.above and row.task in of_task and len(of_task) > 1:
            own.append(of_task.pop(row.task))
            others.append(fmean(of_task.values()))
    return (fmean(own), fmean(others)) if own else None


def results(record: Record) -> dict[str, TaskResult]:
    found = scored(record.evaluations)
    return {task.name: task for task in by_task(found)} if found else {}


def score(task: TaskResult) -> float | None:
    """None where no difficulty of training is scored."""
    value = task.mean(trained=True)
    return value if value is None or task.measure == "exact_match" else -value


def numbers(found: Inspected, record: Record) -> TrialRouting:
    """All of the above that is drawn or tabled."""
    scores, cost = {name: score(task) for name, task in results(record).items()}, silenced(found)
    return TrialRouting(
        layers=layers(found), called=called(found), experts=len(found.specialists),
        silenced=cost, tasks={
            task: TaskNumbers(specialisation=value, above=above(found)[task], score=scores.get(task))
            for task, value in specialisation(found).items()
        },
    )  # fmt: skip


def _by_task(found: Inspected) -> Iterator[tuple[str, list]]:
    for task in found.tasks:
        yield task.task, [row for row in found.task_routing if row.task == task.task]
