"""Reads the files of run folders and results, each held against its type.

Raises everywhere:
    UserError: a file is missing, damaged, of a newer schema, or does not belong to its plan.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.plan.stored import stored_moe_layers
from harness.reading import is_there, read_json, remedy_of
from harness.record.documents import Identity, Stop, Verified
from harness.record.lines import read_lines
from harness.record.results import CLAIM_VERSION, Claim
from harness.record.rows import ROWS, Rows
from harness.record.schema import SCHEMA_VERSION, Record

VERIFIED = "verified.json"


def read_record(folder: str | Path) -> Record:
    """record.json of a run folder."""
    folder = Path(folder)
    path = folder / "record.json"
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}", "finished runs lie at runs/LANE/SEED-PLAN and results/LANE/SEED-PLAN")
    if not is_there(path):
        raise UserError(f"{folder} has no record.json: that run is not finished", "start the same command again: it resumes")
    return read_json(path, Record, newest=SCHEMA_VERSION)


def read_identity(folder: Path) -> Identity | None:
    """identity.json of a run folder; None where there is none."""
    path = folder / "identity.json"
    return read_json(path, Identity, "move the folder away") if is_there(path) else None


def read_stop(folder: Path) -> Stop | None:
    """stopped.json of a run folder; None where there is none."""
    path = folder / "stopped.json"
    return read_json(path, Stop, "run that lane again") if is_there(path) else None


def read_verified(folder: Path) -> Verified | None:
    """verified.json of a run folder; None where its record was never re-executed with equal bits."""
    path = folder / VERIFIED
    return read_json(path, Verified, f"remove it, and verify {folder} again") if is_there(path) else None


def read_claim(path: Path) -> Claim:
    return read_json(path, Claim, f"restore it: git checkout -- {path}", newest=CLAIM_VERSION)


def read_rows(path: Path, ended: bool = True) -> Rows:
    """The rows of metrics.jsonl by kind, in step order; rows of other kinds are left alone. A run that has not `ended` may be
    in the middle of its last line, which then does not count."""
    return by_kind(read_lines(path, ROWS, ended))


def by_kind(lines: Sequence[Any]) -> Rows:
    rows = Rows(step=[], window=[], validation=[], final=[])
    for row in lines:
        rows[row["kind"]].append(row)
    return rows


def check_shapes(plan: dict[str, Any], rows: Rows, path: Path, stop: Stop | None = None) -> None:
    """Every row that counts experts counts those of the plan, each layer something. `stop`: what health saw."""
    layers, experts = len(stored_moe_layers(plan)), plan["model"]["num_experts"]
    counted = [(f"the window of step {row['step']}", row["counts"]) for row in rows["window"]]
    counted += [("the final row", row["counts"]) for row in rows["final"] if experts]
    parts = [(f"part {name} of the final row", part) for row in rows["final"] for name, part in row.get("parts", {}).items()]
    counted += [(what, part["counts"]) for what, part in parts if experts and "counts" in part]
    counted += [("stopped.json", stop.counts)] if stop and stop.counts else []
    for what, counts_LE in counted:
        found = [len(counts_E) for counts_E in counts_LE]
        if found != [experts] * layers:
            raise _foreign(path, f"{what} counts {found} experts by layer, the plan has {[experts] * layers}")
        if empty := [layer for layer, counts_E in enumerate(counts_LE) if not any(counts_E)]:
            raise _foreign(path, f"{what} counts no row at all in {_named(empty)} of its MoE layers")
    for row in rows["window"]:
        for key in ("bias_range", "dropped"):
            if len(row.get(key) or ()) not in ({layers} if key == "bias_range" else {0, layers}):
                raise _foreign(
                    path, f"the window of step {row['step']} has {len(row[key])} values of {key} for {layers} layers"
                )


def _named(layers: Sequence[int]) -> str:
    return ", ".join(f"number {layer + 1}" for layer in layers)


def _foreign(path: Path, why: str) -> UserError:
    return UserError(f"{path} does not belong to its plan: {why}", remedy_of(path))
