"""Hand-made inspections of the run folders of tests/task_records.py: as uneven by task as asked, and true to their counts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from harness.record.inspected import INSPECT_VERSION
from harness.surprise import surprise

EVEN, OWN = 1000, 2000  # how often each expert is chosen for a task, and how much more the one with the task's number
BEYOND_IDS = 0.01


def inspection(
    folder: Path, strength: Mapping[str, float], *, instances: int = 256, beyond_ids: float = BEYOND_IDS
) -> dict[str, Any]:
    """As `make inspect` writes it, of a run whose experts tell of each task so many nats beyond the control; 0.05 is above it.
    From 0.2 on the task has an expert of its own in each layer, that with its number: silenced, it costs its task 0.3 nats per
    answer and others 0.1."""
    record, plan = json.loads((folder / "record.json").read_text()), OmegaConf.load(folder / "plan.yaml")
    tasks, layers, experts = list(plan.data.tasks), plan.model.layers, plan.model.num_experts
    table_EZ = np.full((experts, len(tasks)), EVEN) + OWN * np.eye(experts, len(tasks), dtype=int)
    told_Z, own = surprise(table_EZ).tolist(), dict(enumerate(tasks))
    of_each = [
        {"layer": layer, "task": task, "chosen": table_EZ[:, number].tolist(), "information": told_Z[number],
         "control": _around(told_Z[number] - strength[task]), "above": strength[task] >= 0.05}
        for layer in range(layers) for number, task in own.items()
    ]  # fmt: skip
    whole, mean = float(np.mean(told_Z)), float(np.mean(list(strength.values())))
    told = [
        {"of": of, "task": None, "layer": layer, "information": value, "control": _around(control)}
        for layer in range(layers)
        for of, value, control in (("task", whole, whole - mean), ("task-of-a-token", 0.5, 0.5 - beyond_ids))
    ]
    specialists = [
        {"layer": layer, "expert": expert, "task": task, "above": expert in own and strength[task] >= 0.2}
        for layer in range(layers) for expert in range(experts) if (task := own.get(expert, tasks[0]))
    ]  # fmt: skip
    silenced = [
        {"task": task, "layer": layer, "expert": expert, "nats": 0.3 if own.get(expert) == task else 0.1}
        for task in tasks for layer in range(layers) for expert in range(experts)
    ]  # fmt: skip
    return {
        "schema_version": INSPECT_VERSION,
        "run": {key: record[key] for key in ("lane", "seed", "plan_hash", "content_sha256")}
        | {"weights_sha256": record["artifacts"]["weights.safetensors"]["sha256"]},
        "against": None, "lens": [{"task": tasks[0], "depth": 0, "nats": 5.5}],
        "model": {"moe_layers": list(range(layers)), "experts": experts, "top_k": plan.model.top_k, "width": 128},
        "tasks": [{"task": task, "instances": instances, "states": []} for task in tasks],
        "routing": told, "task_routing": of_each, "specialists": specialists, "ablation": {"rows": silenced, "left_out": ""},
    }  # fmt: skip


def _around(value: float) -> list[float]:
    return [value, value - 0.001, value + 0.001]


def write_inspection(folder: Path, strength: Mapping[str, float], **words: Any) -> Path:
    path = folder / "inspect" / "inspect.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(inspection(folder, strength, **words), indent=1))
    return path
