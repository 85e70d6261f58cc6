"""Synthetic run folders for the tests of harness/report: plausible numbers, written as a finished run writes them.

They pass `harness.report.integrity.check`. `edit_record` signs what it changed, as a forger would; `sign=False` leaves the
hashes as they were, as an accident would.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from harness.errors import UserError
from harness.plan.fingerprint import stored_plan_hash
from harness.reading import read_bytes
from harness.record.occupancy import Occupancy, untimed_reasons
from harness.record.record import content_hash

LINES = {
    "xz_alone": {"label": "xz alone", "slice": 2.2092, "val": 2.1385},
    "xz_given_train": {"label": "xz given train", "slice": 1.6624, "val": 1.7128},
    "ppmd_given_train": {"label": "PPMd given train", "slice": 1.4685, "val": 1.4978},
    "ngram7": {"label": "7-gram", "slice": 1.4086, "val": 1.4986},
}
TOKENS_PER_STEP = 4096
TRAIN_BYTES, VAL_BYTES = 11123664, 1062581


def write_run(
    folder: Path, *, lane: str = "tiny-moe-16e", twin: str | None = "tiny-dense", experts: int = 16, top_k: int = 4,
    layers: int = 4, steps: int = 384, window: int = 16, validations: tuple[int, ...] = (128, 256, 320), step_s: float = 0.26,
    hardware_class: str = "cpu-amx_bf16-2t-torch2.13.0", reasons: tuple[str, ...] = (), dead: int = 0, seed: int = 1,
    offset: float = 0.0, finished_at: str = "2026-01-01T00:00:00Z", leading_dense_layers: int = 0, moe_every: int = 1,
    track: str = "tiny", lr: float = 0.02, overrides: tuple[str, ...] = (),
    precision: str = "bf16", execution: str = "native", taken: float | None = None, of_tasks: bool = False,
    opened: bool = False,
) -> Path:  # fmt: skip
    """Writes record.json, plan.yaml and metrics.jsonl; `experts=0` is a dense run, `dead` experts get no token in layer 0;
    a `precision` of fp8 or nvfp4 gives every window its telemetry; `taken`: the share of its two cores that others took, None
    of a run too old to know; `of_tasks`: on a track of generated tasks, without lines and target; `opened`: of an open lane."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    moe_layers = len(range(leading_dense_layers, layers, moe_every)) if experts else 0

    def slice_bpb(step: int) -> float:
        return 1.27 + offset + 0.36 * (384 / step) ** 0.9 if step > 90 else 8 - 0.045 * step

    rows: list[dict[str, Any]] = []
    curve: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        bits = min(8.0, slice_bpb(step)) + 0.09 * random.standard_normal()
        tokens, train_s = step * TOKENS_PER_STEP, step * step_s
        rows.append({"kind": "step", "step": step, "tokens": tokens, "loss": bits * math.log(2), "grad_norm": 1.0,
                     "lr_scale": 1.0})  # fmt: skip
        if step % window == 0 or step == steps:
            rows.append({
                "kind": "window", "step": step, "tokens": tokens, "train_s": train_s, "tokens_per_second": 4096 / step_s,
                "mfu": 0.08, "chain": "cd" * 32,
                "counts": _counts(random, moe_layers, experts, top_k, step, dead, (step - 1) % window + 1),
                "bias_range": [0.1] * moe_layers, "groups": _groups(random, step / steps, bool(experts)),
            })  # fmt: skip
            if precision in ("fp8", "nvfp4"):
                rows[-1]["precision"] = telemetry(precision, layers, bool(experts), step / steps, leading_dense_layers)
        if step in validations or step == steps:
            point = {"step": step, "tokens": tokens, "train_s": train_s, "slice_bpb": slice_bpb(step)}
            curve.append(point)
            rows.append({"kind": "validation", **point})
    plan = {
        "lane": {"name": lane, "twin": None, "open": True} if opened else {"name": lane, "twin": twin},
        "track": {"name": track, "train_bytes": TRAIN_BYTES, "train_sha256": "33" * 32, "val_bytes": VAL_BYTES,
                  "val_sha256": "73" * 32, "slice_bytes": 262144, "lines": LINES, "target": "xz_given_train"},
        "optim": {"muon": {"lr": lr}}, "precision": {"format": precision},
        "batch": {"tokens_per_step": TOKENS_PER_STEP}, "budget": {"tokens": steps * TOKENS_PER_STEP},
        "validation": {"steps": list(validations)}, "seed": seed, "unranked": bool(reasons), "run": {"folder": "runs"},
        "model": {"layers": layers, "vocab_size": 256, "num_experts": experts, "top_k": top_k if experts else 0,
                  "leading_dense_layers": leading_dense_layers} | ({"moe_every": moe_every} if moe_every > 1 else {}),
    }  # fmt: skip
    record = _record(lane, seed, hardware_class, reasons, curve, experts, moe_layers, step_s, dead, finished_at)
    if of_tasks:
        plan["track"] |= {"lines": {}, "target": "", "tokens": {"tokenizer": "tasks", "format": "tasks"}}
        nothing = {"target": None, "target_reached": False, "time_to_target_s": None, "tokens_to_target": None}
        record["lines"], record["metrics"] = {}, record["metrics"] | nothing
    record["precision"] = {"format": precision, "execution": execution}
    record |= {"plan_hash": stored_plan_hash(plan), "track": track}
    if taken is not None:
        disturb(rows, record, taken)
    record["provenance"]["overrides"] = [f"lane={lane}", f"seed={seed}", *overrides]
    targets, counts = VAL_BYTES - 1, [[]]
    if experts:
        counts = [[1000 + i for i in range(experts)]] * moe_layers
        if dead:
            counts[0] = counts[0][:-dead] + [0] * dead
        record["router_health"] = _health(counts)
    nats = record["metrics"]["val_bpb"] * math.log(2) * targets
    scores = ("val_bpb", "val_bpb_clean", "slice_bpb_shuffled_routing", "scored_bytes")
    rows.append({"kind": "final", "step": steps, "nats": nats, "targets": targets, "counts": counts,
                 **{key: record["metrics"][key] for key in scores}})  # fmt: skip
    identity = {"plan_hash": record["plan_hash"], "seed": seed, "hardware_class": hardware_class}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "plan.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plan)))
    (folder / "identity.json").write_text(json.dumps(identity))
    (folder / "record.json").write_text(json.dumps(record, indent=1))
    sign(folder)
    return folder


def disturb(rows: list[dict[str, Any]], record: dict[str, Any], taken: float) -> None:
    """Gives windows and record the processor seconds of a run on two cores of which others took a share."""
    windows, begun, total = [row for row in rows if row["kind"] == "window"], 0.0, {}
    for row in windows:
        wall_s, begun = row["train_s"] - begun, row["train_s"]
        own, others = 2 * wall_s * (1 - taken), 2 * wall_s * taken
        row["occupancy"] = {"cores": 2, "own_s": own, "others_s": others, "taken_s": others, "waited_s": others / 2}
        total = {key: total.get(key, 0.0) + value for key, value in row["occupancy"].items()}
    record["occupancy"] = total | {
        "cores": 2, "threads": 2, "share": total["taken_s"] / (2 * record["clock"]["train_s"]),
        "peaks": {"before": 2.5e12, "middle": 2.4e12, "after": 2.5e12},
    }  # fmt: skip
    record["untimed_reasons"] = untimed_reasons(Occupancy(**record["occupancy"]), record["hardware_class"])


def sign(folder: Path) -> None:
    """Recomputes every hash of the record over the files as they are."""
    path = folder / "record.json"
    record = json.loads(path.read_text())
    for name in ("plan.yaml", "identity.json", "metrics.jsonl"):
        try:
            content = read_bytes(folder / name)
        except UserError:  # gone, or damaged
            content = b""
        record["artifacts"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    record["artifacts"]["weights.safetensors"] = {"sha256": "ee" * 32, "bytes": 21_000_000}
    record["content_sha256"] = content_hash(record)
    path.write_text(json.dumps(record, indent=1))


def edit_record(folder: Path, sign: bool = True, **changes: Any) -> None:
    """Sets dotted keys of record.json, `__` standing for the dot."""
    path = folder / "record.json"
    record = json.loads(path.read_text())
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        node = record
        for parent in parents:
            node = node[int(parent) if parent.isdecimal() else parent]
        node[leaf] = value
    if sign:
        record["content_sha256"] = content_hash(record)
    path.write_text(json.dumps(record))


def set_val(folder: Path, bits: float) -> None:
    """Another figure of all of val, in the record and in the final row that it rests on; the slice stays what it was."""
    *rows, final = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    final |= {"val_bpb": bits, "nats": bits * math.log(2) * final["targets"]}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, final]))
    edit_record(folder, metrics__val_bpb=bits)
    sign(folder)


def _counts(
    random: np.random.Generator, layers: int, experts: int, top_k: int, step: int, dead: int, window: int
) -> list[list[int]]:
    """Counts of a window of `window` steps. A router that starts uneven and is balanced with time; deeper layers later."""
    counts = []
    for layer in range(layers):
        unevenness = 0.08 + 0.9 * math.exp(-step / (40 + 25 * layer))
        share = np.exp(unevenness * random.standard_normal(experts))
        if layer == 0 and dead:
            share[-dead:] = 0
        for _ in range(20):  # an expert is in a top-k set at most once
            share = np.minimum(share / share.sum(), 1 / top_k)
        total = window * TOKENS_PER_STEP * top_k
        rounded = np.floor(share / share.sum() * total).astype(int)
        rounded[: total - rounded.sum()] += 1  # what flooring left over, and every window sums to its assignments
        counts.append(rounded.tolist())
    return counts


def _health(counts: list[list[int]]) -> dict[str, Any]:
    """As harness/evaluate/router_health.py derives it, in plain Python."""
    layers = []
    for i, of_layer in enumerate(counts):
        shares = [count / sum(of_layer) for count in of_layer]
        entropy = -sum(share * math.log(share) for share in shares if share)
        layers.append({
            "layer": i, "entropy": entropy, "entropy_ratio": entropy / math.log(len(of_layer)),
            "effective_experts": math.exp(entropy), "cv_percent": 22.0, "max_load_percent": 100 * max(shares),
            "active": sum(c > 0 for c in of_layer), "dead": sum(c == 0 for c in of_layer), "balance": 0.5, "margin": 0.02,
            "bias_range": 0.1,
        })  # fmt: skip
    return {
        "layers": layers, "worst_entropy_ratio": min(layer["entropy_ratio"] for layer in layers),
        "dead": sum(layer["dead"] for layer in layers), "max_load_percent": max(layer["max_load_percent"] for layer in layers),
    }  # fmt: skip


def telemetry(precision: str, layers: int, moe: bool, done: float, leading_dense_layers: int = 0) -> dict[str, Any]:
    """`precision` of a window at `done` of its run, as harness/train/telemetry.py writes it: later layers have the smaller
    gradients, and codes flip less as the rate decays. No random numbers: those of the other rows stay what they were."""
    nvfp4 = precision == "nvfp4"
    factors = ("wgrad_input", "wgrad_hidden_gradient", "wgrad_hidden", "wgrad_gradient") if nvfp4 else ()
    names = ("input", "weight_up", "hidden", "weight_down", "gradient", "hidden_gradient", *factors)
    tensors, flips, router, smallest = {}, {}, {}, {}
    for layer in range(layers):
        of_layer = tensors[str(layer)] = {}
        for i, name in enumerate(names):
            size = 1e-7 / (layer + 1) if "gradient" in name else 1e-2
            of_layer[name] = {
                "snr_db": (18 if nvfp4 else 31) + i % 4 - 0.3 * layer - done,
                "underflow": (0.05 + 0.03 * i - 0.004 * layer) * (nvfp4 or 0.01),
                "saturation": (0.002 + 0.01 * i + 0.001 * layer) * nvfp4, "smallest": size,
            }  # fmt: skip
        flips[str(layer)] = {"up": 0.05 * (1.02 - done) / (layer + 1), "down": 0.03 * (1.02 - done) / (layer + 1)}
        if moe and layer >= leading_dense_layers:
            router[str(layer)] = 3e-6 * (1.1 - done) / (layer + 1)
            smallest[str(layer)] = of_layer["gradient"]["smallest"]
    return {"tensors": tensors, "flips": flips, "router_grad_rms": router, "smallest_step": smallest}


def _groups(random: np.random.Generator, done: float, moe: bool) -> dict[str, dict[str, float]]:
    scale = {"dense": 1.0, "embedding": 2.5, "head": 0.6} | ({"expert": 0.7, "router": 0.15} if moe else {})
    decay = 1 - 0.95 * max(0.0, (done - 0.6) / 0.4)
    return {
        name: {"grad_rms": 2e-3 * s * math.exp(-done + 0.1 * random.standard_normal()), "update_rms": 2e-4 * s * decay,
               "param_rms": 0.05 * (1 + done)}
        for name, s in scale.items()
    }  # fmt: skip


def _record(
    lane: str, seed: int, hardware_class: str, reasons: tuple[str, ...], curve: list[dict[str, Any]], experts: int,
    layers: int, step_s: float, dead: int, finished_at: str,
) -> dict[str, Any]:  # fmt: skip
    target = LINES["xz_given_train"]["slice"]
    last = curve[-1]
    crossed = [(a, b) for a, b in zip(curve, curve[1:]) if a["slice_bpb"] > target >= b["slice_bpb"]]
    at = {"train_s": None, "tokens": None}
    if crossed:
        a, b = crossed[0]
        share = (a["slice_bpb"] - target) / (a["slice_bpb"] - b["slice_bpb"])
        at = {x: a[x] + share * (b[x] - a[x]) for x in at}
    train_s = last["train_s"]
    return {
        "schema_version": 1, "lane": lane, "track": "tiny", "seed": seed, "ranked": not reasons,
        "unranked_reasons": list(reasons), "resumes": 0, "fork": None, "plan_hash": "3f9c1a2e" * 8, "lane_hash": "aa" * 32,
        "recipe_hash": "bb" * 32, "hardware_class": hardware_class,
        "hardware": {"device": "cpu", "threads": 2, "isa": "amx_bf16", "compute": "bf16", "matmul_peak_flops": 2.5e12},
        "precision": {"format": "bf16", "execution": "native"},
        "data": {"train_sha256": "33" * 32, "val_sha256": "73" * 32, "train_bytes": TRAIN_BYTES, "val_bytes": VAL_BYTES},
        "metrics": {
            "val_bpb": last["slice_bpb"] + 0.0591, "slice_bpb": last["slice_bpb"], "val_bpb_clean": last["slice_bpb"] + 0.0777,
            "slice_bpb_shuffled_routing": last["slice_bpb"] + 0.4 if experts else None,
            "target": {"line": "xz_given_train", "slice_bpb": target}, "target_reached": bool(crossed),
            "time_to_target_s": at["train_s"], "tokens_to_target": at["tokens"], "curve": curve, "tokens": last["tokens"],
            "tokens_per_second": 4096 / step_s, "step_s": step_s, "mfu": 4096 / step_s * 14000000 / 2.5e12,
            "scored_bytes": VAL_BYTES,
            "partial": any("partial" in reason for reason in reasons),
            "peak_memory_bytes": 966367641,
        },
        "clock": {"train_s": train_s, "compile_s": 0.0, "warmup_s": 2.0, "validation_s": 12.0, "checkpoint_s": 1.5,
                  "final_evaluation_s": 21.0, "other_s": 3.5, "wall_s": train_s + 40.0},
        "router_health": None,
        "counts": {"params_total": 5390000, "params_active": 2240000, "flops_per_token": 14000000},
        "determinism": {"chain": "cd" * 32, "weights": "ef" * 32}, "lines": LINES,
        "provenance": {"commit": "c0" * 20, "dirty": False, "started_at": finished_at, "finished_at": finished_at},
        "artifacts": {},
    }  # fmt: skip
