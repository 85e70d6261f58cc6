"""The record: what a run claims, derived from raw numbers that stand beside it. `record.json` is written once, atomically."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.files import file_sha256
from harness.plan import parts
from harness.plan.bounds import RANKING, looser_words
from harness.plan.goal import CURVE_METRICS, goal
from harness.plan.schema import Plan
from harness.record.folder import RunFolder
from harness.record.ranking import end_of_training

SCHEMA_VERSION = 1
EVIDENCE = ("plan.yaml", "identity.json", "metrics.jsonl", "weights.safetensors")
PUBLIC = "evaluations.json"  # evidence of those runs that scored public test sets


def to_target(curve: list[dict[str, Any]], target: float, key: str, metric: str = "slice_bpb") -> float | None:
    """Where the curve's `metric` crosses `target`, interpolated linearly in `key` ("train_s" or "tokens") between the two
    validations around the first crossing; None when it never does. The first point has nothing before it and counts as it
    stands."""
    before = None
    for point in curve:
        if point[metric] <= target:
            if before is None:
                return point[key]
            share = (before[metric] - target) / (before[metric] - point[metric])
            return before[key] + share * (point[key] - before[key])
        before = point
    return None


def metrics(
    plan: Plan,
    curve: list[dict[str, Any]],
    tokens: int,
    train_s: float,
    flops_per_token: int,
    peak_flops: float,
    scores: dict[str, Any],
) -> dict[str, Any]:
    """The record's `metrics`. `scores` is added as it is: what final evaluation found, and peak_memory_bytes."""
    target, rate = goal(plan.track), tokens / train_s
    reached, at_tokens = (
        to_target(curve, target.level, key, target.metric) if target else None for key in ("train_s", "tokens")
    )
    return {
        **{metric: curve[-1][metric] for metric in CURVE_METRICS if metric in curve[-1]},
        "target": target.as_record() if target else None,
        "target_reached": reached is not None,
        "time_to_target_s": reached,
        "tokens_to_target": at_tokens,
        "curve": curve,
        "tokens": tokens,
        "tokens_per_second": rate,
        "step_s": plan.batch.tokens_per_step / rate,
        "mfu": rate * flops_per_token / peak_flops,
        **scores,
    }


def unranked_reasons(
    plan: Plan,
    broken: dict[str, tuple[Any, Any]],
    provenance: dict[str, Any],
    resumes: int,
    health: dict[str, Any] | None,
    last_window: tuple[int, float],
    breaches: Iterable[str] = (),
) -> list[str]:
    """Why a run is not ranked; empty when it is. All of it by the bounds of ranking, whatever the plan's own health is:
    `last_window`: dead experts and dominance of the last window of training; `breaches`: what earlier windows did."""
    reasons = [f"{key}={now} instead of {was}" for key, (was, now) in broken.items()] + looser_words(asdict(plan))
    if plan.unranked and not reasons:
        reasons.append("unranked=true")
    if plan.fork:
        reasons.append(f"forked from {plan.fork}")
    if resumes:
        reasons.append(f"resumed {resumes} time{'s' if resumes > 1 else ''}")
    if provenance["dirty"]:
        reasons.append("the source tree had uncommitted changes")
    reasons += [f"{kind} {name} is not of this repository" for kind, name in parts.chosen(plan) if parts.is_outside(kind, name)]
    reasons += breaches
    if health is not None:
        dead, share = max(health["dead"], last_window[0]), max(health["dominance"], last_window[1])
        reasons += end_of_training(RANKING, plan.model.num_experts, plan.model.top_k, dead, share)
    return reasons


def content_hash(record: dict[str, Any]) -> str:
    """sha256 over the canonical JSON of everything in the record but this hash itself; finds an edited figure."""
    content = {key: value for key, value in record.items() if key != "content_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write(folder: RunFolder, record: dict[str, Any]) -> Path:
    """Adds the hashes of the evidence and of itself, and writes record.json; its presence marks the run as finished."""
    record["artifacts"] = {
        name: {"sha256": file_sha256(folder.path / name), "bytes": (folder.path / name).stat().st_size}
        for name in (*EVIDENCE, PUBLIC)
        if (folder.path / name).exists()
    }
    record["content_sha256"] = content_hash(record)
    folder.write("record.json", json.dumps(record, indent=1, allow_nan=False))
    return folder.path / "record.json"
