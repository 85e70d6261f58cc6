"""Synthetic trials of studies: run folders of tests/report_factory.py whose load, or whose scores, are as asked."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from report_factory import TOKENS_PER_STEP, set_val, write_run

from harness.report.study.trials import Trial, read_trial


def trial(
    home: Path, case: str, seed: int = 1, *, spread: float = 0.2, dead: int = 0, experts: int = 16, top_k: int = 4,
    stopped: int = 0, multiplier: float = 1.0, **words: Any,
) -> Trial:  # fmt: skip
    """`spread`: of the log of the load; `dead`: experts of layer 0 without a row; `stopped`: the step health stopped it at."""
    folder = write_run(home / case / str(seed), seed=seed, experts=experts, top_k=top_k, **words)
    random = np.random.default_rng(seed)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] in ("window", "final"):
            settled = 1.0 if row["kind"] == "final" else 1 + 3 * np.exp(-row["step"] / 60)
            row["counts"] = [_counts(random, experts, top_k, spread * settled, dead * (layer == 0)) for layer in range(4)]
        if row["kind"] == "window":
            row["groups"]["expert"]["update_rms"] *= multiplier
    if stopped:
        rows = [row for row in rows if row["step"] < stopped]
        (folder / "record.json").unlink()
        stop = {"reason": "collapse", "step": stopped, "what": "an expert in every set", "remedy": "balance", "counts": None}
        (folder / "stopped.json").write_text(json.dumps(stop))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_trial(case, seed, folder)


def _counts(random: np.random.Generator, experts: int, top_k: int, spread: float, dead: int) -> list[int]:
    share = np.exp(spread * random.standard_normal(experts))
    share[:dead] = 0
    rows = 16 * TOKENS_PER_STEP * top_k
    for _ in range(20):  # an expert is in a top-k set at most once
        share = np.minimum(share / share.sum(), 1 / top_k)
    return np.floor(share * rows).astype(int).tolist()


def of_text(
    home: Path, case: str, seed: int = 1, *, val: float = 2.0, epochs: int = 0, train: float | None = None,
    parts: dict[str, float] | None = None, **words: Any,
) -> Trial:  # fmt: skip
    """A run whose text a plan turned. `val`: bits per byte of all of it; `epochs`: passes over its text; `train`: bits of every
    step of its last sixteenth; `parts`: bits per byte of parts of val."""
    folder = write_run(home / case / str(seed), seed=seed, **{"experts": 0} | words)
    plan = OmegaConf.load(folder / "plan.yaml")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] == "step" and train is not None and row["tokens"] > plan.budget.tokens * 15 / 16:
            row["loss"] = train * math.log(2)
        if row["kind"] == "final" and parts:
            row["parts"] = {name: {"nats": bits * 1000 * math.log(2), "bytes": 1000} for name, bits in parts.items()}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = json.loads((folder / "record.json").read_text())
    if parts:
        record["metrics"]["val_parts"] = parts
    if epochs:
        plan.data = {"epochs": epochs}
        (folder / "plan.yaml").write_text(OmegaConf.to_yaml(plan))
        size = plan.budget.tokens // epochs
        record["data"]["turned"] = {
            "documents": 1000, "kept": 1000 // epochs, "noise_bytes": 0, "read_bytes": size, "read_sha256": "ab" * 32,
            "shares": {"all": 1.0},
        }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(record))
    set_val(folder, val)
    return read_trial(case, seed, folder)
