"""What of a run's scores on tasks follows from the rest of its record."""

import math
from collections.abc import Iterator

from harness.interval import wilson
from harness.report.run_data import RunData
from harness.report.task_scores import scored


def scores_of_tasks(run: RunData) -> Iterator[str]:
    """Shares and intervals against counts, and the tasks against the plan's: one sentence for each that does not hold."""
    if (found := scored(run.record.evaluations)) is None:
        return
    planned = run.plan.get("data", {}).get("tasks", [])
    if list(dict.fromkeys(row.task for row in found.scores)) != [name for name in planned if not _all_left_out(name, found)]:
        yield f"evaluations.tasks has not the tasks of plan.yaml, {', '.join(planned) or 'which has none'}"
    seen = set()
    for row in found.scores:
        name = f"evaluations.tasks: {row.task} of {row.difficulty}"
        if (row.task, row.difficulty) in seen:
            yield f"{name} is there twice"
        seen.add((row.task, row.difficulty))
        if not row.right <= row.n or not row.questions <= row.n or row.answers < row.n:
            yield f"{name}: {row.right} right, {row.questions} questions and {row.answers} answers of {row.n} instances"
            continue
        derived = {"exact_match": row.right / row.n, **dict(zip(("interval from", "interval to"), wilson(row.right, row.n)))}
        for (what, value), stated in zip(derived.items(), (row.exact_match, *row.interval)):
            if not math.isclose(stated, value, rel_tol=1e-9, abs_tol=1e-12):
                yield f"{name}: {what} is {stated!r}, {row.right} of {row.n} gives {value!r}"


def _all_left_out(name: str, found) -> bool:
    """Whether the model reads no difficulty of a task."""
    return not any(row.task == name for row in found.scores) and any(
        why.startswith(f"{name} of ") for why in found.left_out or ()
    )
