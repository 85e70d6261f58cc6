"""Finished runs as pandas frames, for notebooks. `run` is the run folder's path below the folder that was loaded.

A record whose evidence does not hold is in `records` too, with `evidence_holds` false, so that one can look at it; its rows
are not in the other frames. pandas is imported when frames are made: nothing else in the harness needs it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import UserError
from harness.report import integrity
from harness.report.groups import read_runs
from harness.report.run_data import RunData

if TYPE_CHECKING:
    import pandas as pd

RECORD_KEYS = ("lane", "track", "seed", "ranked", "hardware_class", "plan_hash", "resumes", "fork")
COUNT_COLUMNS = ("run", "step", "layer", "expert", "count")
QUANTIZED = ("snr_db", "underflow", "saturation", "smallest")
PRECISION_COLUMNS = ("run", "step", "layer", "tensor", *QUANTIZED, "flipped", "router_grad_rms")


@dataclass(frozen=True)
class Frames:
    """`records`: a row a run. `curves`: run, step, tokens, train_s, slice_bpb. `steps`: run, step, loss, grad_norm.
    `expert_counts`: run, step, layer, expert, count, of the window that ends at that step; layers are counted as in the
    model. `precision`, of the steps that close a window, for formats below bf16: run, step, layer, tensor, snr_db, underflow,
    saturation, smallest (magnitude told apart from 0; that of `gradient` is the format's smallest step), flipped (share of a
    weight's codes that the update changed, else NaN), router_grad_rms (the layer's, NaN without a router).
    `problems`: one sentence for each record that could not be read or whose evidence does not hold."""

    records: "pd.DataFrame"
    curves: "pd.DataFrame"
    steps: "pd.DataFrame"
    expert_counts: "pd.DataFrame"
    precision: "pd.DataFrame"
    problems: list[str]


def load_frames(folder: str | Path) -> Frames:
    """Every finished run below `folder` as frames.

    Raises:
        UserError: the folder does not exist, or pandas is not installed.
    """
    pd, top = _pandas(), Path(folder)
    if not top.is_dir():
        raise UserError(f"{top} is no folder", "name a folder of records, such as results or runs")
    problems: list[str] = []
    records, curves, steps, counts, precision = [], [], [], [], []
    for run in read_runs([top], problems):
        name = run.folder.relative_to(top).as_posix()
        doubts = integrity.check(run)
        problems += [f"{run.folder}: {doubt}" for doubt in doubts]
        records.append({"run": name, **_record_row(run), "evidence_holds": not doubts})
        if doubts:
            continue
        curves += [{"run": name, **point} for point in run.record.metrics.curve]
        steps += [(name, row["step"], row["loss"], row.get("grad_norm", np.nan)) for row in run.steps]
        counts += [pd.DataFrame({"run": name, **window}) for window in _windows(run)]
        precision += [(name, *row) for row in _quantized(run)]
    frame = pd.DataFrame(records)
    for key in ("started_at", "finished_at") if records else ():
        frame[key] = pd.to_datetime(frame[key], utc=True, errors="coerce", format="ISO8601")
    return Frames(
        records=frame,
        curves=pd.DataFrame(curves, columns=["run", "step", "tokens", "train_s", "slice_bpb"]),
        steps=pd.DataFrame(steps, columns=["run", "step", "loss", "grad_norm"]),
        expert_counts=pd.concat(counts, ignore_index=True) if counts else pd.DataFrame(columns=COUNT_COLUMNS),
        precision=pd.DataFrame(precision, columns=list(PRECISION_COLUMNS)),
        problems=problems,
    )


def _pandas() -> ModuleType:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise UserError("harness.report.load needs pandas, which is not installed", "pip install pandas") from error
    return pandas


def _record_row(run: RunData) -> dict[str, Any]:
    """The record flattened: metrics and counts under their own names, the clock as clock_*, the worst of router health."""
    record = run.record
    target, metrics, health, source = record.metrics.target, record.metrics, record.router_health, record.provenance
    return {
        **{key: getattr(record, key) for key in RECORD_KEYS},
        "unranked_reasons": "; ".join(record.unranked_reasons),
        "disturbed": record.disturbed or "",
        "taken_share": record.occupancy and record.occupancy.share,
        "precision": record.precision.format,
        "execution": record.precision.execution,
        **{key: value for key, value in metrics.content().items() if key not in ("curve", "target")},
        "target_line": target and target.line,
        "target_slice_bpb": target and target.slice_bpb,
        **record.counts.content(),
        **{f"clock_{key}": value for key, value in record.clock.content().items()},
        **{key: getattr(health, key, None) for key in ("worst_entropy_ratio", "dead", "max_load_percent")},
        **{key: getattr(source, key) for key in ("commit", "dirty", "started_at", "finished_at")},
    }


def _windows(run: RunData) -> list[dict[str, np.ndarray]]:
    """Columns of `expert_counts` for one run: none for a dense run."""
    if not run.experts:
        return []
    counts_NLE = np.array([window["counts"] for window in run.windows])
    steps_N = np.array([window["step"] for window in run.windows])
    window, layer, expert = (axis.ravel() for axis in np.indices(counts_NLE.shape))
    layers_L = np.array(run.moe_layers)
    return [{"step": steps_N[window], "layer": layers_L[layer], "expert": expert, "count": counts_NLE.ravel()}]


def _quantized(run: RunData) -> Iterator[tuple[Any, ...]]:
    """Rows of `precision` for one run, without its name: none for a run in bf16 or fp32."""
    for window in run.windows:
        found = window.get("precision") or {}
        routers = found.get("router_grad_rms", {})
        for layer, tensors in found.get("tensors", {}).items():
            flips = found.get("flips", {}).get(layer, {})
            for tensor, figures in tensors.items():
                flipped = flips.get(tensor.removeprefix("weight_"), np.nan) if tensor.startswith("weight_") else np.nan
                figures_of = (figures[name] for name in QUANTIZED)
                yield window["step"], int(layer), tensor, *figures_of, flipped, routers.get(layer, np.nan)
