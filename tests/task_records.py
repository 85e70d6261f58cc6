"""Hand-made scores on tasks, and run folders that have them: every kind of panel, line and difficulty."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from report_factory import sign, write_run

from harness.interval import wilson
from harness.plan.fingerprint import stored_plan_hash

# task: (difficulties of training, beyond, entropy of the exact distributions or None)
TASKS = {
    "depo": ((1, 2, 3, 4), (6, 8), None), "brevo": ((4, 6, 8, 10), (15, 20), None), "mano": ((1, 2, 3, 4, 5), (8, 10), None),
    "copy": (tuple(range(1, 9)), (12, 16), None), "lano": ((16,), (41,), 0.74), "ngram": ((1, 2, 4, 8, 16, 32), (64,), 0.64),
    "scrambled": ((1, 2, 4), (8,), math.log(64)),
}  # fmt: skip


def result(skill: float = 0.9, n: int = 256, tasks: tuple[str, ...] = tuple(TASKS), sha256: str = "ab" * 32) -> dict[str, Any]:
    """As `harness.evaluate.public.tasks_result` gives it, of a model of this skill, 0 to 1."""
    scores, lines = [], []
    for name in tasks:
        trained, beyond, entropy = TASKS[name]
        for place, difficulty in enumerate((*trained, *beyond)):
            share = skill ** (0.3 * place + (2.0 if difficulty in beyond else 0)) if entropy is None else 0.0
            right = round(share * n)
            row = {"task": name, "difficulty": difficulty, "trained": difficulty in trained, "n": n, "questions": n - n // 8,
                   "right": right, "exact_match": right / n, "interval": list(wilson(right, n)), "answers": 3 * n,
                   "nats": (entropy or 0.0) + 3 * (1 - skill), "nats_error": 0.02}  # fmt: skip
            if entropy is not None:
                gap = 0.0002 if name == "scrambled" else 0.4 * (1 - skill) * (1 + 0.1 * place)
                row |= {"nats": entropy + gap, "kl": gap, "kl_error": gap / 12, "entropy": entropy}
            scores.append(row)
        if entropy is None:
            lines.append(_line(name, "chance", {trained[-1]: 1 / 23 if name == "mano" else 1e-9}))
            lines.append(_line(name, "Bayes optimum", dict.fromkeys((*trained, *beyond), 1.0)))
            lines += [_line(name, f"{order}-gram", {d: order / 100 / d for d in (*trained, *beyond)}) for order in range(2, 11)]
        else:
            lines.append(_line(name, "chance", dict.fromkeys((*trained, *beyond), math.log(64) - entropy + 0.01)))
            lines.append(_line(name, "Bayes optimum", dict.fromkeys((*trained, *beyond), 0.0)))
        if name == "lano":
            lines += [_line(name, f"{order}-gram", {16: 0.5 * 0.7**order, 41: 0.6 * 0.7**order}) for order in range(2, 11)]
        if name == "ngram":
            levels = {2: 3.1, 3: 0.02, 4: 0.35, 5: 1.2}
            lines += [_line(name, f"{n}-gram", dict.fromkeys((*trained, *beyond), level)) for n, level in levels.items()]
    partial = f"partial: {n} of 256 instances of each difficulty" if n < 256 else None
    right = {name: {} for name in tasks}
    for row in scores:
        right[row["task"]][str(row["difficulty"])] = "1" * row["right"] + "0" * (n - row["right"])
    return {"protocol": "tasks-v1", "context": 128, "sha256": sha256, "examples": len(scores) * n, "partial": partial,
            "left_out": ["copy of 32: up to 91 tokens, the model reads 64"], "scores": scores, "right": right,
            "task_lines": lines}  # fmt: skip


def _line(task: str, name: str, levels: dict[int, float]) -> dict[str, Any]:
    measure = "exact_match" if TASKS[task][2] is None else "kl"
    return {"task": task, "name": name, "measure": measure, "levels": {str(at): level for at, level in levels.items()}}


def add_scores(folder: Path, found: dict[str, Any]) -> Path:
    """Gives a finished run's folder these scores as its own run would have written them."""
    plan = OmegaConf.to_container(OmegaConf.load(folder / "plan.yaml"))
    plan["data"] = {"tasks": list(dict.fromkeys(row["task"] for row in found["scores"]))}
    (folder / "plan.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plan)))
    (folder / "evaluations.json").write_text(json.dumps({"tasks": found}, indent=1))
    content = (folder / "evaluations.json").read_bytes()
    record = json.loads((folder / "record.json").read_text())
    identity = json.loads((folder / "identity.json").read_text())
    record["plan_hash"] = identity["plan_hash"] = stored_plan_hash(plan)
    (folder / "identity.json").write_text(json.dumps(identity))
    record["evaluations"] = {"tasks": {key: value for key, value in found.items() if key != "right"}}
    record["artifacts"]["evaluations.json"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "record.json").write_text(json.dumps(record))
    sign(folder)
    return folder


def write_task_run(folder: Path, skill: float = 0.9, found: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A finished run with scores on tasks."""
    return add_scores(write_run(folder, **({"steps": 32, "validations": ()} | changes)), found or result(skill))


def skills(seeds: int) -> list[float]:
    return np.linspace(0.85, 0.95, seeds).tolist()
