"""Is the evidence of a record whole and consistent? Files against hashes, derived numbers against the raw ones they rest on.

This finds accidental and partial edits: one figure changed, a line of metrics.jsonl removed, a plan exchanged, protocols
mixed. It cannot find a forgery whose author recomputed every hash; only re-execution does (`python -m harness verify`).
What no raw number in the folder can confirm is listed in `ONLY_BY_RE_EXECUTION`.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from harness.errors import UserError
from harness.plan.fingerprint import stored_plan_hash
from harness.plan.goal import CURVE_METRICS
from harness.plan.stored import settings
from harness.plan.tasks import made_anew
from harness.reading import file_hash, is_there, parse_json, read_bytes
from harness.record.load import Load
from harness.record.read import read_identity
from harness.record.record import EVIDENCE, PUBLIC, content_hash, to_target
from harness.report.clock_evidence import whose_machine
from harness.report.rank_evidence import against_rank
from harness.report.rule import rule_of
from harness.report.run_data import RunData
from harness.report.task_evidence import scores_of_tasks

ONLY_BY_RE_EXECUTION = (
    "losses, gradient norms and expert counts of each step, the hash chain and the final weights",
    "the scores of the final evaluation beyond the slice's curve",
    "seconds, whose the processors were, peak memory and the machine's measured peaks",
)
OPTIONAL_FILES = ("weights.safetensors",)  # large: results/ keeps its hash, not the file
SUMS_TO_S = 0.01  # the ledger's entries against wall time


def check(run: RunData) -> list[str]:
    """One sentence for each thing that does not hold; empty when the evidence is whole.

    `load_run` has seen the fields and their types, not all that lies beneath them: what is there in another shape does not
    hold either, and must not keep others from being checked.
    """
    found: list[str] = []
    for part in (_files, _identity, _rank, _curve, _rates, whose_machine, _steps, _scores, _health, scores_of_tasks):
        try:
            found += part(run)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            found.append(
                f"its evidence of {part.__name__.strip('_')} is not in the shape of a record ({type(error).__name__}: {error})"
            )
    return found


def _differs(name: str, stated: Any, derived: Any, source: str) -> Iterator[str]:
    same = (
        math.isclose(stated, derived, rel_tol=1e-9)
        if isinstance(stated, float) and isinstance(derived, (int, float))
        else (stated == derived)
    )
    if not same:
        yield f"{name} is {stated!r}, {source} gives {derived!r}"


def _files(run: RunData) -> Iterator[str]:
    stated = run.record.content_sha256
    if stated is None:
        yield "record.json carries no content_sha256: it was written by an older harness or stripped"
    elif stated != content_hash(_content(run)):
        yield "record.json was changed after it was written: its content_sha256 does not match its content"
    artifacts = run.record.artifacts
    for name in (*EVIDENCE, PUBLIC) if run.record.evaluations else EVIDENCE:
        if name not in artifacts:
            yield f"record.json states no hash of {name}"
            continue
        path = run.folder / name
        if not is_there(path):
            if name not in OPTIONAL_FILES:
                yield f"{name} is missing"
            continue
        try:
            if file_hash(path) != artifacts[name].sha256:
                yield f"{name} was changed after the record was written: its sha256 is not the recorded one"
        except UserError as error:
            yield error.problem


def _content(run: RunData) -> dict[str, Any]:
    """What is in record.json, to the last digit."""
    path = run.folder / "record.json"
    return parse_json(read_bytes(path), path)


def _identity(run: RunData) -> Iterator[str]:
    """Record, plan and identity speak of one run."""
    record, plan = run.record, run.plan
    yield from _differs("plan_hash", record.plan_hash, stored_plan_hash(plan), "plan.yaml")
    yield from _differs("lane", record.lane, plan["lane"]["name"], "plan.yaml")
    yield from _differs("track", record.track, plan["track"]["name"], "plan.yaml")
    yield from _differs("seed", record.seed, plan["seed"], "plan.yaml")
    yield from _differs("lines", record.content()["lines"], plan["track"]["lines"], "the track in plan.yaml")
    for part in () if made_anew(settings(plan)) else ("train", "val"):
        for key in (f"{part}_sha256", f"{part}_bytes"):
            if plan["track"][key]:  # a track states nothing of what only its files know
                yield from _differs(f"data.{key}", getattr(record.data, key), plan["track"][key], "the track in plan.yaml")
    try:
        identity = read_identity(run.folder)
    except UserError as error:
        yield error.problem
        return
    for key in ("plan_hash", "seed", "hardware_class") if identity else ():
        yield from _differs(key, getattr(record, key), getattr(identity, key), "identity.json")
    if identity and not record.resumes:  # a resume may have changed the number of ranks
        yield from _differs("its class with ranks", record.speed_class, identity.speed_class, "identity.json")


def _rank(run: RunData) -> Iterator[str]:
    record, reasons = run.record, run.record.unranked_reasons
    if record.ranked == bool(reasons):
        yield f"ranked is {record.ranked}, with {len(reasons)} reasons against it"
    if record.ranked and (record.resumes or record.fork or run.plan["unranked"] or record.provenance.dirty):
        yield "ranked is True, although the run was resumed, forked, declared unranked, or made from a dirty tree"
    yield from against_rank(run)


def _curve(run: RunData) -> Iterator[str]:
    """The curve is the validation rows at the planned steps, and the target follows from it."""
    metrics, plan = run.record.metrics, run.plan
    rows = [{key: value for key, value in row.items() if key != "kind"} for row in run.validations]
    if metrics.curve != rows:
        yield f"metrics.curve is not the {len(rows)} validation rows of metrics.jsonl"
    planned = sorted({*(s for s in plan["validation"]["steps"] if s < run.planned_steps), run.planned_steps})
    if [row["step"] for row in rows] != planned:
        yield f"protocol: validated at steps {[row['step'] for row in rows]}, the plan says {planned}"
    for name in CURVE_METRICS:
        yield from _differs(f"metrics.{name}", getattr(metrics, name), metrics.curve[-1].get(name), "the curve's last point")
    yield from _target(run)


def _target(run: RunData) -> Iterator[str]:
    metrics, track = run.record.metrics, run.plan["track"]
    stated = metrics.target
    yield from _differs("metrics.target.line", stated.line if stated else "", track["target"], "the track in plan.yaml")
    crossing = tokens = None
    levels = {name: line["slice"] for name, line in track["lines"].items()}
    levels |= {name: milestone["value"] for name, milestone in track.get("milestones", {}).items()}
    if stated and (level := levels.get(track["target"])) is not None:
        yield from _differs(f"metrics.target.{stated.metric}", stated.level, level, "the track in plan.yaml")
        crossing, tokens = (to_target(metrics.curve, level, key, stated.metric) for key in ("train_s", "tokens"))
    yield from _differs("metrics.target_reached", metrics.target_reached, crossing is not None, "the curve")
    yield from _differs("metrics.time_to_target_s", metrics.time_to_target_s, crossing, "the curve")
    yield from _differs("metrics.tokens_to_target", metrics.tokens_to_target, tokens, "the curve")


def _rates(run: RunData) -> Iterator[str]:
    metrics, clock, record = run.record.metrics, run.record.clock, run.record
    rate = metrics.tokens / clock.train_s
    yield from _differs("metrics.tokens_per_second", metrics.tokens_per_second, rate, "tokens / clock.train_s")
    per_step = run.by_step.total / run.planned_steps
    yield from _differs("metrics.step_s", metrics.step_s, per_step / rate, "tokens_per_second")
    peak = record.hardware.matmul_peak_flops * (record.hardware.world_size or 1)  # of all ranks together
    mfu = rate * record.counts.flops_per_token / peak
    yield from _differs("metrics.mfu", metrics.mfu, mfu, "tokens/s x FLOP per token / matmul peak")
    if rule_of(run.plan).seconds_alone:
        yield from _differs("clock.train_s", clock.train_s, metrics.curve[-1]["train_s"], "the end of the curve")
    spent = sum(seconds for name, seconds in clock.content().items() if name != "wall_s")
    if abs(spent - clock.wall_s) > SUMS_TO_S:
        yield f"clock: its entries sum to {spent:.2f} s, wall_s is {clock.wall_s:.2f} s"
    times = [row["train_s"] for row in (*run.windows, *run.validations)]
    if times and max(times) > clock.train_s + SUMS_TO_S:
        yield f"clock.train_s is {clock.train_s:.2f} s, metrics.jsonl reaches {max(times):.2f} s"
    if any(b["train_s"] <= a["train_s"] for a, b in zip(run.windows, run.windows[1:])):
        yield "metrics.jsonl: the clock of its windows does not rise"


def _steps(run: RunData) -> Iterator[str]:
    """Every step is there once, and the windows' chain ends where the record's does."""
    trained, last = run.by_step.before, run.planned_steps  # the tokens of the first so many steps
    steps = [row["step"] for row in run.steps]
    if len(steps) != last or steps[-1] != last:
        there = set(steps)
        missing = list(islice((step for step in range(1, last + 1) if step not in there), 5))
        named = f"; missing: {', '.join(map(str, missing))}" if missing else ""
        yield f"metrics.jsonl has {len(steps)} step rows, the plan {last} steps{named}"
    for row in run.steps:
        if row["tokens"] != (expected := trained(row["step"])):
            yield f"metrics.jsonl: step {row['step']} counts {row['tokens']:,} tokens instead of {expected:,}"
            break
    yield from _differs("metrics.tokens", run.record.metrics.tokens, run.by_step.total, "plan.yaml")
    yield from _differs("determinism.chain", run.record.determinism.chain, run.windows[-1]["chain"], "the last window")
    before = 0
    for window in run.windows:
        expected = (trained(window["step"]) - trained(before)) * run.plan["model"]["top_k"]
        sums = {sum(counts) for counts in window["counts"]}
        if sums - {expected}:
            yield f"metrics.jsonl: the window of step {window['step']} counts {sorted(sums)} rows a layer, not {expected}"
            break
        before = window["step"]


def _scores(run: RunData) -> Iterator[str]:
    """The final evaluation as metrics.jsonl logged it."""
    metrics = run.record.metrics
    scored, val = metrics.scored_bytes, run.record.data.val_bytes
    if not metrics.partial and scored != val:
        yield f"protocol: {scored:,} {run.scored}s of val were scored, the track has {val:,}"
    if run.final is None:
        yield "metrics.jsonl has no row of the final evaluation"
        return
    for key in ("val_bpb", "val_bpb_clean", "slice_bpb_shuffled_routing", "scored_bytes"):
        yield from _differs(f"metrics.{key}", getattr(metrics, key), run.final[key], "the final row of metrics.jsonl")
    parts = {name: part["nats"] / (math.log(2) * part["bytes"]) for name, part in run.final.get("parts", {}).items()}
    yield from _differs("metrics.val_parts", metrics.val_parts or {}, parts, "the final row of metrics.jsonl")
    size = run.final.get("target_bytes", run.final["targets"])  # a byte of a track of bytes is a target of its own
    yield from _differs("metrics.val_bpb", metrics.val_bpb, run.final["nats"] / (math.log(2) * size), "nats over scored bytes")
    if "target_bytes" in run.final:
        yield from _differs("metrics.scored_bytes", scored, size, "the bytes of the targets in the final row")
        yield from _differs("metrics.val_loss", metrics.val_loss, run.final["val_loss"], "the final row of metrics.jsonl")
    elif run.final["targets"] != metrics.scored_bytes - 1:
        yield (
            f"protocol: bits per byte divides by {run.final['targets']:,} bytes; of {metrics.scored_bytes:,} scored bytes "
            "all but the first are targets"
        )


def _health(run: RunData) -> Iterator[str]:
    health, counts = run.record.router_health, (run.final or {}).get("counts") or []
    if not health or not counts:
        return
    layers = health.layers
    yield from _differs("router_health.dead", health.dead, sum(layer.dead for layer in layers), "its layers")
    worst = min(layer.entropy_ratio for layer in layers)
    yield from _differs("router_health.worst_entropy_ratio", health.worst_entropy_ratio, worst, "its layers")
    most = max(layer.max_load_percent for layer in layers)
    yield from _differs("router_health.max_load_percent", health.max_load_percent, most, "its layers")
    dropped = [layer.dropped for layer in layers if layer.dropped is not None]
    yield from _differs("router_health: dropped", dropped, run.windows[-1].get("dropped", []), "the last window")
    load = Load.of(counts)
    for layer, dead, most, entropy in zip(layers, load.dead, load.max_load_percent, load.entropy):
        name = f"router_health of layer {layer.layer}"
        yield from _differs(f"{name}: dead", layer.dead, int(dead), "the final counts")
        if not math.isclose(layer.max_load_percent, most, rel_tol=1e-6):
            yield f"{name}: max_load_percent is {layer.max_load_percent:.4f}, the final counts give {most:.4f}"
        if not math.isclose(layer.entropy, entropy, rel_tol=1e-6, abs_tol=1e-9):
            yield f"{name}: entropy is {layer.entropy:.6f}, the final counts give {entropy:.6f}"
