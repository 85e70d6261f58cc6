"""What this room reads of record.json, plan.yaml and metrics.jsonl, and of which type. A file without one of these fields is
corrupt, not merely old."""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from harness.errors import UserError

NUMBER = (int, float)
NUMBER_OR_NULL = (int, float, type(None))
MISSING = object()  # of no type that a field may have

RECORD_FIELDS: dict[str, Any] = {
    "lane": str, "track": str, "seed": int, "ranked": bool, "unranked_reasons": list, "plan_hash": str,
    "resumes": int, "fork": (str, type(None)), "hardware_class": str, "hardware.matmul_peak_flops": NUMBER,
    "precision.format": str, "precision.execution": str, "data.train_sha256": str, "data.val_sha256": str,
    "data.train_bytes": (int, type(None)), "metrics.val_bpb": NUMBER, "metrics.slice_bpb": NUMBER,
    "metrics.val_bpb_clean": NUMBER_OR_NULL, "metrics.slice_bpb_shuffled_routing": NUMBER_OR_NULL,
    "metrics.target": (dict, type(None)), "metrics.target_reached": bool,
    "metrics.time_to_target_s": NUMBER_OR_NULL, "metrics.tokens_to_target": NUMBER_OR_NULL, "metrics.curve": list,
    "metrics.tokens": int, "metrics.tokens_per_second": NUMBER, "metrics.step_s": NUMBER, "metrics.mfu": NUMBER,
    "metrics.peak_memory_bytes": int, "router_health": (dict, type(None)),
    "clock.train_s": NUMBER, "clock.compile_s": NUMBER, "clock.warmup_s": NUMBER, "clock.validation_s": NUMBER,
    "clock.checkpoint_s": NUMBER, "clock.final_evaluation_s": NUMBER, "clock.other_s": NUMBER, "clock.wall_s": NUMBER,
    "counts.params_total": int, "counts.params_active": int, "counts.flops_per_token": NUMBER, "lines": dict,
    "determinism.chain": str, "provenance.dirty": bool, "data.val_bytes": int, "metrics.partial": bool,
    "metrics.scored_bytes": int, "artifacts": dict,
}  # fmt: skip
CURVE_FIELDS = {"step": int, "tokens": int, "train_s": NUMBER, "slice_bpb": NUMBER}
LINE_FIELDS = {"label": str, "slice": NUMBER, "val": NUMBER}
HEALTH_FIELDS = {"worst_entropy_ratio": NUMBER, "dead": int, "max_load_percent": NUMBER}
ROW_FIELDS: dict[str, dict[str, Any]] = {
    "step": {"step": int, "tokens": int, "loss": NUMBER},
    "window": {"step": int, "tokens": int, "train_s": NUMBER, "chain": str, "counts": list, "groups": dict},
    "validation": CURVE_FIELDS,
    "final": {
        "step": int,
        "nats": NUMBER,
        "targets": int,
        "counts": list,
        "val_bpb": NUMBER,
        "val_bpb_clean": NUMBER_OR_NULL,
        "slice_bpb_shuffled_routing": NUMBER_OR_NULL,
        "scored_bytes": int,
    },
}
PLAN_FIELDS: dict[str, Any] = {
    "lane.name": str, "lane.twin": (str, type(None)), "track.name": str, "track.slice_bytes": int, "track.val_bytes": int,
    "track.lines": dict, "track.target": str, "model.layers": int, "model.vocab_size": int, "model.num_experts": int,
    "model.top_k": int, "model.leading_dense_layers": int, "batch.tokens_per_step": int, "budget.tokens": int,
    "validation.steps": list, "seed": int, "unranked": bool,
}  # fmt: skip


def check_fields(tree: Any, spec: Mapping[str, Any], path: Path, where: str) -> None:
    """Raises unless every dotted key of `spec` is in `tree` with its type."""
    for key, kind in spec.items():
        try:
            value = reduce(lambda node, name: node[name], key.split("."), tree)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} is corrupt: {where}{key} is missing", remedy_of(path)) from error
        if not isinstance(value, kind):
            raise UserError(f"{path} is corrupt: {where}{key} is {value!r}", remedy_of(path))


def remedy_of(path: Path) -> str:
    return f"restore it (git checkout -- {path}, where it was committed) or run that lane again"
