"""A run's tasks: what a table or a figure asks of their scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.record.evaluations import Evaluation, TaskLine, TaskScore
from harness.report.statistics import Sample

MEASURES = {"exact_match": "exact match", "kl": "KL"}
UNITS = {
    "exact_match": "exact match of whole answers",
    "kl": "KL from the exact distribution, in nats per answer",
}


@dataclass(frozen=True)
class TaskResult:
    """One task: its scores by ascending difficulty, and the lines beside them."""

    name: str
    rows: tuple[TaskScore, ...]
    lines: tuple[TaskLine, ...]

    @property
    def measure(self) -> str:
        """Where not even the best answer is certain, what counts is how far a model is from the exact distributions."""
        return "kl" if any(row.entropy for row in self.rows) else "exact_match"

    def mean(self, trained: bool) -> float | None:
        """The measure over difficulties, those of training or those beyond; None where there are none."""
        values = [getattr(row, self.measure) for row in self.rows if row.trained == trained]
        return sum(values) / len(values) if values else None


def by_task(found: Evaluation) -> list[TaskResult]:
    """In the order of the plan."""
    return [
        TaskResult(
            name,
            tuple(sorted((row for row in found.scores if row.task == name), key=lambda row: row.difficulty)),
            tuple(line for line in found.task_lines if line.task == name),
        )
        for name in dict.fromkeys(row.task for row in found.scores)
    ]


def scored(evaluations: dict[str, Evaluation]) -> Evaluation | None:
    """The scores of a record's tasks, where it has them."""
    found = evaluations.get("tasks")
    return found if found and found.scores else None


def in_one_line(found: Evaluation) -> list[tuple[str, str]]:
    """(name, text) of a summary, a line a measure: each task's mean over training's difficulties, and over those beyond."""
    tasks, lines = by_task(found), []
    for measure, name in MEASURES.items():
        told = [f"{task.name} {_pair(task)}" for task in tasks if task.measure == measure]
        if told:
            said = f"{UNITS[measure]} (beyond training's difficulties): {', '.join(told)}"
            lines.append(("tasks" if not lines else name, said))
    if found.left_out:
        lines.append(("left out", "; ".join(found.left_out)))
    return lines


def figures(found: Evaluation) -> dict[str, float]:
    """{"copy exact match": ..., "copy exact match, beyond": ...}: what `in_one_line` says."""
    told = {}
    for task in by_task(found):
        for trained, suffix in ((True, ""), (False, ", beyond")):
            if (value := task.mean(trained)) is not None:
                told[f"{task.name} {MEASURES[task.measure]}{suffix}"] = value
    return told


def _pair(task: TaskResult) -> str:
    inside, beyond = (number(task.mean(trained), task.measure) for trained in (True, False))
    return f"{inside} ({beyond})" if beyond != "-" else inside


def number(value: float | None, measure: str) -> str:
    return "-" if value is None else f"{value:.3f}" if measure == "exact_match" or value >= 0.01 else f"{value:.2g}"


HEADER = ("task", "difficulty", "n", "right", "exact match", "95% interval", "nats ± s.e.", "KL ± s.e.")


def table(found: Evaluation) -> list[str]:
    """A line a task and difficulty: whole answers, and per answer nats and KL with their standard errors."""
    rows = [HEADER, *(_cells(row) for task in by_task(found) for row in task.rows)]
    widths = [max(len(cells[at]) for cells in rows) for at in range(len(HEADER))]
    notes = ["", *("" if row.trained else "beyond training" for task in by_task(found) for row in task.rows)]
    lines = [
        "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:]), note]) for cells, note in zip(rows, notes)
    ]
    return [f"  {line}".rstrip() for line in lines] + [f"  left out: {why}" for why in found.left_out or ()]


def _cells(row: TaskScore) -> tuple[str, ...]:
    low, high = row.interval
    share, nats = f"{row.exact_match:.4f}", f"{row.nats:.4f} ± {row.nats_error:.4f}"
    kl = "-" if row.kl is None else f"{row.kl:.4f} ± {row.kl_error:.4f}"
    counts = (str(row.difficulty), f"{row.n:,}", f"{row.right:,}")
    return row.task, *counts, share, f"{low:.3f} to {high:.3f}", nats, kl


Cells = list[list[str]]


def of_groups(groups: Iterable[tuple[str, Sequence[Evaluation]]]) -> tuple[list[str], Cells]:
    """(header, rows) of a table with a row a group and a column a task: means over its runs, ± sd, beyond training in
    parentheses. Groups without scores are left out; an empty header where nobody has any."""
    known = [(name, [by_task(found) for found in runs]) for name, runs in groups if runs]
    tasks = {task.name: task.measure for _, runs in known for one in runs for task in one}
    rows = []
    for name, runs in known:
        cells = []
        for task in tasks:
            means = [[it.mean(trained) for one in runs for it in one if it.name == task] for trained in (True, False)]
            inside, beyond = (_sampled(values, tasks[task]) for values in means)
            cells.append(f"{inside} ({beyond})" if beyond != "-" else inside)
        rows.append([name, *cells])
    return (["lane", *(f"{task}, {MEASURES[measure]}" for task, measure in tasks.items())] if rows else []), rows


def _sampled(values: Sequence[float | None], measure: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    sample = Sample.of(known)
    return number(sample.mean, measure) + ("" if sample.sd is None else f" ± {number(sample.sd, measure)}")
