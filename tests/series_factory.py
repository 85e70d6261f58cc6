"""Runs of the points of a series as a finished run writes them, whose bits per byte follow a law that is known."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import yaml
from report_factory import edit_record, set_val, sign, write_run

from harness.launch.series.points import SeriesPoint
from harness.plan.fingerprint import to_yaml
from harness.plan.series import Series

FILE = yaml.safe_load("""
title: an example
question: What grows how?
lane: tiny-dense
sizes: [4, 5, 6, 8]
scaled: {model.width: 16, model.heads: 1}
budgets: [1.6e+11, 3.2e+11]
ahead: 6.4e+11
seeds: [1, 2]
scored: 4096
common: batch.tokens_per_step=4096 model.layers=2 model.sequence_length=32 run.mlflow=off
families:
  dense:
    scaled: {model.ffn_width: 32}
  moe:
    words: model.ffn_width=0 model.num_experts=8 model.top_k=2 balance=bias
    scaled: {model.expert_width: 16}
""")
HERE = "cpu-a-class"
EXPONENT, FLOOR = 0.5, 1.2
BEST = {"dense": (60_000, 600_000), "moe": (50_000, 500_000)}  # parameters and tokens that do as much for bits per byte each


def series(**changes) -> Series:
    return Series(**FILE | {"name": "example"} | changes)


def bits(point: SeriesPoint, seed: int) -> float:
    """By a law of parameters and tokens, and a seed's own luck."""
    n0, d0 = BEST[point.family]
    luck = 0.001 * math.sin(7 * seed + point.size + point.budget / 1e11)
    return FLOOR + 0.2 * (n0 / point.counts.params_active) ** EXPONENT + 0.2 * (d0 / point.tokens) ** EXPONENT + luck


def point_run(
    home: Path, point: SeriesPoint, seed: int = 1, *, bpb: float | None = None, step_s: float = 0.01, hardware_class: str = HERE
) -> Path:
    """The run folder of a point, in `home` as a run of its lane lies there."""
    plan = replace(point.plan, seed=seed)
    m, track = plan.model, plan.track
    folder = write_run(
        home / plan.lane.name / f"{point.name}-{seed}", lane=plan.lane.name, twin=plan.lane.twin, experts=m.num_experts,
        top_k=m.top_k, layers=m.layers, steps=plan.steps, validations=(), step_s=step_s, hardware_class=hardware_class,
        reasons=("a partial budget",), seed=seed, taken=0.0,
    )  # fmt: skip
    (folder / "plan.yaml").write_text(to_yaml(plan))
    record = json.loads((folder / "record.json").read_text())
    plan_hash = _hash(folder)
    identity = {"plan_hash": plan_hash, "seed": seed, "hardware_class": hardware_class}
    (folder / "identity.json").write_text(json.dumps(identity))
    rate, peak = record["metrics"]["tokens_per_second"], record["hardware"]["matmul_peak_flops"]
    edit_record(
        folder, plan_hash=plan_hash, track=track.name, counts=asdict(point.counts),
        metrics__mfu=rate * point.counts.flops_per_token / peak,
        lines={name: asdict(line) for name, line in track.lines.items()},
        data={key: getattr(track, key) for key in ("train_sha256", "val_sha256", "train_bytes", "val_bytes")},
    )  # fmt: skip
    sign(folder)
    set_val(folder, bits(point, seed) if bpb is None else bpb)
    return folder


def _hash(folder: Path) -> str:
    from harness.plan.fingerprint import stored_plan_hash

    return stored_plan_hash(yaml.safe_load((folder / "plan.yaml").read_text()))
