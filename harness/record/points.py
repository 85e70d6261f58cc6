"""The rows of metrics.jsonl as points of curves: (name, value, step, seconds on the clock).

Rows may still be growing. A step's time is known when the window that holds it has closed, so its points come with that
window; steps that no window will close come with `ended`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.record.load import Load
from harness.record.schema import Record

STEP = ("loss", "grad_norm", "lr_scale")
WINDOW = ("tokens_per_second", "mfu")
CLOCKED = ("time_to_target_s", "tokens_per_second", "mfu", "step_s")
RECORD = (*CLOCKED, "peak_memory_bytes")
QUANTIZED = ("snr_db", "underflow", "saturation")  # of each quantized tensor
LOAD = ("entropy_ratio", "max_load_percent", "dead")  # of each MoE layer
FINAL = ("val_bpb", "val_bpb_clean", "slice_bpb_shuffled_routing")


@dataclass(frozen=True)
class Point:
    name: str
    value: float
    step: int
    seconds: float
    kind: str  # of the row it came from


def of_record(record: Record) -> Iterator[Point]:
    """What a run came to, for a table of runs to be sorted by: `run/...`, at its last step. One that was disturbed has nothing
    there that rests on its clock."""
    last = record.metrics.curve[-1]
    figures = {name: getattr(record.metrics, name) for name in RECORD} | {"train_s": record.clock.train_s}
    if record.disturbed:
        figures = {"peak_memory_bytes": record.metrics.peak_memory_bytes}
    if record.occupancy:
        figures["taken_share"] = record.occupancy.share
    for name, value in figures.items():
        if value is not None:
            yield Point(f"run/{name}", value, last["step"], last["train_s"], "record")


def points(rows: list[dict[str, Any]], moe_layers: list[int], ended: bool) -> Iterator[Point]:
    """In the order of the rows. A value that is no number of this run (None), and a figure of precision that is not
    finite, give no point. `moe_layers`: the layer of each list of counts."""
    waiting: list[dict[str, Any]] = []
    last_step, last_s = 0, 0.0
    for row in rows:
        kind, step = row["kind"], row["step"]
        if kind == "step":
            waiting.append(row)
        elif kind == "window":
            span = max(step - last_step, 1)
            for earlier in waiting:
                share = (earlier["step"] - last_step) / span
                yield from _step(earlier, last_s + share * (row["train_s"] - last_s))
            yield from _window(row, moe_layers)
            waiting, last_step, last_s = [], step, row["train_s"]
        elif kind == "validation":
            yield Point("slice_bpb", row["slice_bpb"], step, row["train_s"], kind)
        elif kind == "final":
            yield from _plain(row, FINAL, last_s)
    for row in waiting if ended else []:
        yield from _step(row, last_s)


def _step(row: dict[str, Any], seconds: float) -> Iterator[Point]:
    yield from _plain(row, STEP, seconds)
    for name, value in row.get("auxiliary", {}).items():
        yield Point(f"auxiliary/{name}", value, row["step"], seconds, row["kind"])


def _plain(row: dict[str, Any], names: tuple[str, ...], seconds: float) -> Iterator[Point]:
    for name in names:
        if row.get(name) is not None:
            yield Point(name, row[name], row["step"], seconds, row["kind"])


def _window(row: dict[str, Any], moe_layers: list[int]) -> Iterator[Point]:
    step, seconds = row["step"], row["train_s"]
    yield from _plain(row, WINDOW, seconds)
    for layer, dropped in zip(moe_layers, row.get("dropped", [])):
        yield Point(f"router/layer_{layer}/dropped", dropped, step, seconds, "window")
    load = Load.of(row["counts"])
    figures = {name: getattr(load, name).tolist() for name in LOAD} | {"bias_range": row["bias_range"]}
    for i, layer in enumerate(moe_layers):
        for name, value_L in figures.items():
            yield Point(f"router/layer_{layer}/{name}", float(value_L[i]), step, seconds, "window")
    for group, rms in row["groups"].items():
        if rms["param_rms"]:
            yield Point(f"update_ratio/{group}", rms["update_rms"] / rms["param_rms"], step, seconds, "window")
    for name, value in _precision(row.get("precision") or {}):
        if math.isfinite(value):
            yield Point(f"precision/{name}", value, step, seconds, "window")


def _precision(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What formats below bf16 did, by tensor and layer; an SNR may be NaN (a tensor of zeros) or infinite (exact)."""
    for layer, shares in found.get("flips", {}).items():
        for tensor, share in shares.items():
            yield f"flips/{tensor}/layer{layer}", share
    for layer, shares in found.get("flip_causes", {}).items():
        for cause, share in shares.items():
            yield f"flips/{cause.replace('.', '/')}/layer{layer}", share
    for layer, tensors in found.get("tensors", {}).items():
        for tensor, figures in tensors.items():
            for name in QUANTIZED:
                yield f"{name}/{tensor}/layer{layer}", figures[name]
    for name in ("router_grad_rms", "smallest_step"):
        for layer, value in found.get(name, {}).items():
            yield f"{name}/layer{layer}", value
