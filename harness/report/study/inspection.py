"""What `make inspect` found in a run of a study: where it lies, and whether it is of that very run and whole."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.record.inspected import INSPECT_FILE, Inspected, named, read_inspected
from harness.record.run import Run
from harness.report.look_evidence import of_another
from harness.report.study import looked
from harness.surprise import surprise


def look_up(run: Run) -> tuple[Inspected | None, str]:
    """What lies in `inspect` of a finished run, or beside a copy of its record; or None, and why."""
    return looked.look_up(run, "inspect", INSPECT_FILE, read_inspected, _wrong)


def put_inspection(found: Inspected, folder: Path) -> None:
    """What tables and figures rest on, into the folder of a record's copy."""
    (folder / INSPECT_FILE).write_text(json.dumps(named(found), separators=(",", ":")).replace('{"task"', '\n{"task"') + "\n")


def _wrong(found: Inspected, run: Run) -> Iterator[str]:
    yield from of_another(found.run, run)
    planned = run.plan.get("data", {}).get("tasks", [])
    if (asked := [task.task for task in found.tasks]) != planned:
        yield f"asked {', '.join(asked)}, the plan has the tasks {', '.join(planned) or '(none)'}"
    yield from _broken(found, run)


def _broken(found: Inspected, run: Run) -> Iterator[str]:
    """Every layer told of every task as its counts have it, every expert of a layer once."""
    tasks, layers, experts = [task.task for task in found.tasks], run.moe_layers, run.experts
    if found.task_routing is None or found.specialists is None or found.routing is None or found.ablation is None:
        yield "has nothing about experts and tasks"
        return
    if [(row.layer, row.task) for row in found.task_routing] != [(layer, task) for layer in layers for task in tasks]:
        yield "has not what each layer tells of each task"
        return
    if [(row.layer, row.expert) for row in found.specialists] != [(layer, e) for layer in layers for e in range(experts)]:
        yield "has not each expert of each layer"
    if {row.task for row in (*found.specialists, *found.ablation.rows)} - set(tasks):
        yield "names tasks that were not asked"
    if any([row.layer for row in found.routing if row.of == of] != layers for of in ("task", "task-of-a-token")):
        yield "has not what each layer tells of all tasks"
        return
    for layer in layers:
        rows = [row for row in found.task_routing if row.layer == layer]
        if {len(row.chosen) for row in rows} != {experts} or not all(any(row.chosen) for row in rows):
            yield f"does not count {experts} experts in layer {layer}"
            continue
        table_EZ = np.array([row.chosen for row in rows]).T
        told_Z = surprise(table_EZ)
        whole = next(row for row in found.routing if row.of == "task" and row.layer == layer)
        stated = [*((row.task, row.information) for row in rows), ("all tasks", whole.information)]
        for (of, said), value in zip(stated, [*told_Z, told_Z @ table_EZ.sum(0) / table_EZ.sum()]):
            if not math.isclose(said, value, rel_tol=1e-6, abs_tol=1e-9):
                yield f"says {said:.6g} nats of {of} in layer {layer}, its counts give {value:.6g}"
