"""What the gate compares with: the figures of several seeds of one plan, by hardware class, and why they were accepted.

    results/baselines/<lane>.json: lane -> plan hash -> hardware class -> seeds and timing; beside it every reason ever stated.

A file holds figures, no weights and no logs, so that it is reviewed in a pull request like any other change.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import replace_atomically
from harness.plan.schema import UNHASHED
from harness.reading import is_there, read_json
from harness.record.documents import Probe
from harness.record.results import (
    BASELINE_VERSION,
    Baseline,
    BaselineHealth,
    ClassBaseline,
    Figures,
    PlanBaseline,
    Update,
)
from harness.report.run_data import RunData

PARTS = 4  # the mean training loss of each quarter of a run
CHAIN_DIGITS = 16  # of a window's chain: enough to find where two runs part; the last chain is kept whole
FOLDER = Path("results/baselines")


def figures(run: RunData) -> Figures:
    """What a baseline keeps of one run, and what the gate looks at in a new one."""
    record, metrics = run.record, run.record.metrics
    return Figures(
        chain=record.determinism.chain,
        weights=record.determinism.weights,
        windows=[(row["step"], row["chain"][:CHAIN_DIGITS]) for row in run.windows],
        val_bpb=metrics.val_bpb,
        slice_bpb=[(row["step"], row["slice_bpb"]) for row in metrics.curve],
        loss=_loss_by_part([row["loss"] for row in run.steps]),
        health=_health(run),
        peak_memory_bytes=metrics.peak_memory_bytes,
    )


def _health(run: RunData) -> BaselineHealth | None:
    if (health := run.record.router_health) is None:
        return None
    ranges = run.windows[-1]["bias_range"]
    return BaselineHealth(
        dead=health.dead,
        max_load_percent=health.max_load_percent,
        worst_entropy_ratio=health.worst_entropy_ratio,
        bias_range_low=min(ranges),
        bias_range_high=max(ranges),
    )


def _loss_by_part(losses: list[float]) -> list[float]:
    edges = [round(i * len(losses) / PARTS) for i in range(PARTS + 1)]
    return [statistics.fmean(losses[a:b]) for a, b in zip(edges, edges[1:]) if b > a]


def path_of(folder: Path, lane: str) -> Path:
    return folder / f"{lane}.json"


def read(folder: Path, lane: str) -> Baseline:
    """The baseline of a lane, empty where it has none.

    Raises:
        UserError: the file is corrupt, of a newer schema, or of another lane.
    """
    path = path_of(folder, lane)
    if not is_there(path):
        return empty(lane)
    remedy = f"restore it: git checkout -- {path}"
    stored = read_json(path, Baseline, remedy, newest=BASELINE_VERSION)
    if stored.lane != lane:
        raise UserError(f"{path} is a baseline of lane {stored.lane}", remedy)
    return stored


def empty(lane: str) -> Baseline:
    return Baseline(schema_version=BASELINE_VERSION, lane=lane, history=[], plans={})


def updated(before: Baseline, runs: list[RunData], probes: list[Probe], reason: str, date: str) -> Baseline:
    """`before` with these seeds as the new baseline of their plan and hardware class; every earlier reason is kept.

    Raises:
        UserError: the reason is empty, or the runs are not seeds of one plan on one hardware class.
    """
    if not reason.strip():
        raise UserError("a baseline is not changed without a reason", 'add reason="what changed, and why that is meant"')
    first = runs[0].record
    for key in ("lane", "plan_hash", "speed_class", "counts"):
        if any(getattr(run.record, key) != getattr(first, key) for run in runs):
            found = sorted({str(getattr(run.record, key)) for run in runs})
            raise UserError(f"these runs differ in {key}: {'; '.join(found)}", "name seeds of one plan on one machine")
    seeds = {run.record.seed: figures(run) for run in runs}
    if len(seeds) < len(runs):
        raise UserError(f"{len(runs)} runs, but only seeds {sorted(seeds)}", "name one run a seed")
    probes = [probe for probe in probes if not probe.timing.disturbed]  # a busy machine's speed is no baseline
    versions = {probe.timing.version for probe in probes}
    assert len(versions) <= 1, versions  # without a probe speed is not judged
    note = Update(
        date=date, commit=first.provenance.commit, reason=reason.strip(), plan_hash=first.plan_hash,
        hardware_class=first.speed_class, seeds=sorted(seeds),
    )  # fmt: skip
    fresh = ClassBaseline(
        seeds={str(seed): found for seed, found in seeds.items()}, ratios=[probe.timing.ratio for probe in probes],
        workload_version=versions.pop() if versions else 0, reason=note.reason, date=date, commit=note.commit,
    )  # fmt: skip
    old = before.plans.get(note.plan_hash)
    others = old.classes if old is not None and old.counts == first.counts else {}
    classes = dict(sorted((others | {note.hardware_class: fresh}).items()))
    plan = PlanBaseline(plan=_hashed(runs[0].plan), counts=first.counts, classes=classes)
    plans = dict(sorted((before.plans | {note.plan_hash: plan}).items()))
    return before.model_copy(update={"plans": plans, "history": [*before.history, note]})


def _hashed(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The part of a stored plan that can change bits: seed, folders and the like stay out of a baseline."""
    kept = {}
    for name, value in node.items():
        if isinstance(value, dict):
            kept |= {name: inner} if (inner := _hashed(value, f"{prefix}{name}.")) else {}
        elif prefix + name not in UNHASHED:
            kept[name] = value
    return kept


def write(folder: Path, baseline: Baseline) -> Path:
    path = path_of(folder, baseline.lane)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, [json.dumps(baseline.content(), indent=1).encode(), b"\n"])
    return path
