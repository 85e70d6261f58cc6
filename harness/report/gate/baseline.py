"""What the gate compares with: the figures of several seeds of one plan, by hardware class, and why they were accepted.

    results/baselines/<lane>.json: lane -> plan hash -> hardware class -> seeds and timing; beside it every reason ever stated.

A file holds figures, no weights and no logs, so that it is reviewed in a pull request like any other change.
"""

import json
import statistics
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import replace_atomically
from harness.plan.schema import UNHASHED
from harness.reading import is_there, read_json
from harness.record.documents import BASELINE_VERSION, BaselineFile
from harness.report.run_data import RunData

PARTS = 4  # the mean training loss of each quarter of a run
CHAIN_DIGITS = 16  # of a window's chain: enough to find where two runs part; the last chain is kept whole
FOLDER = Path("results/baselines")

Figures = dict[str, Any]


def figures(run: RunData) -> Figures:
    """What a baseline keeps of one run, and what the gate looks at in a new one."""
    record, metrics = run.record, run.record["metrics"]
    health = record["router_health"]
    ranges = run.windows[-1]["bias_range"] if health else []
    return {
        "chain": record["determinism"]["chain"],
        "weights": record["determinism"]["weights"],
        "windows": [[row["step"], row["chain"][:CHAIN_DIGITS]] for row in run.windows],
        "val_bpb": metrics["val_bpb"],
        "slice_bpb": [[row["step"], row["slice_bpb"]] for row in metrics["curve"]],
        "loss": _loss_by_part([row["loss"] for row in run.steps]),
        "health": {
            "dead": health["dead"], "max_load_percent": health["max_load_percent"],
            "worst_entropy_ratio": health["worst_entropy_ratio"], "bias_range_low": min(ranges), "bias_range_high": max(ranges),
        } if health else None,
        "peak_memory_bytes": metrics["peak_memory_bytes"],
    }  # fmt: skip


def _loss_by_part(losses: list[float]) -> list[float]:
    edges = [round(i * len(losses) / PARTS) for i in range(PARTS + 1)]
    return [statistics.fmean(losses[a:b]) for a, b in zip(edges, edges[1:]) if b > a]


@dataclass
class ClassBaseline:
    """One hardware class: `seeds` maps a seed to its figures; `ratios` are step / reference workload, one a process."""

    seeds: dict[int, Figures]
    ratios: list[float]
    workload_version: int
    reason: str
    date: str
    commit: str

    @property
    def label(self) -> str:
        return f"baseline of {self.date[:10]} (commit {self.commit[:8]}, {self.reason!r})"


@dataclass
class PlanBaseline:
    plan: dict[str, Any]
    counts: dict[str, Any]
    classes: dict[str, ClassBaseline]

    def seed_noise(self, hardware_class: str) -> tuple[str, list[Figures]]:
        """The seeds to take seed noise from: of this class where it has two, else of the class that has most."""
        own = self.classes.get(hardware_class)
        if own is not None and len(own.seeds) > 1:
            return "this hardware class", list(own.seeds.values())
        name, other = max(self.classes.items(), key=lambda item: len(item[1].seeds))
        return f"hardware class {name}", list(other.seeds.values())


@dataclass
class Baseline:
    lane: str
    plans: dict[str, PlanBaseline] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)  # of every update: date, commit, reason, plan, class, seeds


def path_of(folder: Path, lane: str) -> Path:
    return folder / f"{lane}.json"


def read(folder: Path, lane: str) -> Baseline:
    """Empty where the lane has none. Errors: UserError for a file that is corrupt, of a newer schema or of another lane."""
    path = path_of(folder, lane)
    if not is_there(path):
        return Baseline(lane)
    remedy = f"restore it: git checkout -- {path}"
    stored = read_json(path, BaselineFile, remedy, newest=BASELINE_VERSION)
    if stored["lane"] != lane:
        raise UserError(f"{path} is a baseline of lane {stored['lane']}", remedy)
    return Baseline(lane, {name: _plan(content) for name, content in stored["plans"].items()}, stored["history"])


def _plan(content: dict[str, Any]) -> PlanBaseline:
    classes = {name: _class(stored) for name, stored in content["classes"].items()}
    return PlanBaseline(content["plan"], content["counts"], classes)


def _class(stored: dict[str, Any]) -> ClassBaseline:
    known = {field.name: stored[field.name] for field in fields(ClassBaseline)}
    return ClassBaseline(**known | {"seeds": {int(seed): figures for seed, figures in stored["seeds"].items()}})


def updated(before: Baseline, runs: list[RunData], probes: list[dict[str, Any]], reason: str, date: str) -> Baseline:
    """`before` with these seeds as the new baseline of their plan and hardware class; every earlier reason is kept.

    Errors: UserError for an empty reason, or runs that are not seeds of one plan on one hardware class.
    """
    if not reason.strip():
        raise UserError("a baseline is not changed without a reason", 'add reason="what changed, and why that is meant"')
    first = runs[0].record
    for key in ("lane", "plan_hash", "hardware_class", "counts"):
        if any(run.record[key] != first[key] for run in runs):
            found = sorted({str(run.record[key]) for run in runs})
            raise UserError(f"these runs differ in {key}: {'; '.join(found)}", "name seeds of one plan on one machine")
    seeds = {run.record["seed"]: figures(run) for run in runs}
    if len(seeds) < len(runs):
        raise UserError(f"{len(runs)} runs, but only seeds {sorted(seeds)}", "name one run a seed")
    commit = str(first["provenance"]["commit"])
    versions = {probe["timing"]["version"] for probe in probes}
    assert len(versions) <= 1, versions  # without a probe speed is not judged
    fresh = ClassBaseline(
        seeds, [p["timing"]["ratio"] for p in probes], versions.pop() if versions else 0, reason.strip(), date, commit
    )  # fmt: skip
    old = before.plans.get(first["plan_hash"])
    others = dict(old.classes) if old is not None and old.counts == first["counts"] else {}
    plan = PlanBaseline(_hashed(runs[0].plan), first["counts"], others | {first["hardware_class"]: fresh})
    note = {"date": date, "commit": commit, "reason": fresh.reason, "plan_hash": first["plan_hash"],
            "hardware_class": first["hardware_class"], "seeds": sorted(seeds)}  # fmt: skip
    return Baseline(before.lane, before.plans | {first["plan_hash"]: plan}, [*before.history, note])


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
    plans = {
        name: {"plan": plan.plan, "counts": plan.counts, "classes": {c: vars(b) for c, b in sorted(plan.classes.items())}}
        for name, plan in sorted(baseline.plans.items())
    }
    content = {"schema_version": BASELINE_VERSION, "lane": baseline.lane, "history": baseline.history, "plans": plans}
    replace_atomically(path, [json.dumps(content, indent=1).encode(), b"\n"])
    return path
