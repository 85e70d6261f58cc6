"""What of the record is derived from the raw numbers beside it, and how record.json is written: once, atomically."""

import hashlib
import json
from collections.abc import Iterable, Sequence
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
from harness.record.rows import Point
from harness.record.schema import Artifact, Metrics, Provenance, Record, RouterHealth, Target

EVIDENCE = ("plan.yaml", "identity.json", "metrics.jsonl", "weights.safetensors")
PUBLIC = "evaluations.json"  # evidence of those runs that scored public test sets


def to_target(curve: Sequence[Point], target: float, key: str, metric: str = "slice_bpb") -> float | None:
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
    plan: Plan, curve: list[Point], tokens: int, train_s: float, flops_per_token: int, peak_flops: float,
    scores: dict[str, Any],
) -> Metrics:  # fmt: skip
    """The record's `metrics`. `scores`: what final evaluation found, and peak_memory_bytes."""
    target, rate = goal(plan.track), tokens / train_s
    reached, at_tokens = (
        to_target(curve, target.level, key, target.metric) if target else None for key in ("train_s", "tokens")
    )
    return Metrics(
        **{metric: curve[-1][metric] for metric in CURVE_METRICS if metric in curve[-1]},
        target=Target(line=target.id, **{target.metric: target.level}) if target else None,
        target_reached=reached is not None,
        time_to_target_s=reached,
        tokens_to_target=at_tokens,
        curve=curve,
        tokens=tokens,
        tokens_per_second=rate,
        step_s=plan.by_step.total / plan.steps / rate,
        mfu=rate * flops_per_token / peak_flops,
        **scores,
    )


def unranked_reasons(
    plan: Plan,
    broken: dict[str, tuple[Any, Any]],
    provenance: Provenance,
    resumes: int,
    health: RouterHealth | None,
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
    if provenance.dirty:
        reasons.append("the source tree had uncommitted changes")
    reasons += [f"{kind} {name} is not of this repository" for kind, name in parts.chosen(plan) if parts.is_outside(kind, name)]
    reasons += breaches
    if health is not None:
        dead, share = max(health.dead, last_window[0]), max(health.dominance, last_window[1])
        reasons += end_of_training(RANKING, plan.model.num_experts, plan.model.top_k, dead, share)
    return reasons


def content_hash(content: dict[str, Any]) -> str:
    """sha256 over the canonical JSON of everything in record.json but this hash itself; finds an edited figure."""
    rest = {key: value for key, value in content.items() if key != "content_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def artifacts(folder: Path) -> dict[str, Artifact]:
    """The evidence that lies in a run folder, by name."""
    there = [folder / name for name in (*EVIDENCE, PUBLIC) if (folder / name).exists()]
    return {path.name: Artifact(sha256=file_sha256(path), bytes=path.stat().st_size) for path in there}


def write(folder: RunFolder, record: Record) -> Path:
    """Writes record.json with the hash of its content; its presence marks the run as finished."""
    content = record.content()
    content |= {"content_sha256": content_hash(content)}
    folder.write("record.json", json.dumps(content, indent=1, allow_nan=False))
    return folder.path / "record.json"
