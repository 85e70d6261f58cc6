"""A finished run folder, read once: `record.json`, `plan.yaml` and `metrics.jsonl` as plain numbers.

Everything in this room starts from `RunData`. Nothing here is trusted to be whole: a run folder may be unfinished, cut short
by a full disk, edited by hand, or written by a newer harness, and each of these is told apart. Whether the numbers are
*true* is the question of `python -m harness verify`, not of this file.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.plan.stored import stored_moe_layers
from harness.report.record_folders import record_folders
from harness.report.run_fields import (
    CURVE_FIELDS,
    HEALTH_FIELDS,
    LINE_FIELDS,
    MISSING,
    NUMBER,
    PLAN_FIELDS,
    RECORD_FIELDS,
    ROW_FIELDS,
    check_fields,
    remedy_of,
)  # fmt: skip
from harness.report.target import UNITS, Target, target_of

SCHEMA_VERSION = 1


class _PlanYaml(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # libyaml, where the wheel has it, is ten times faster
    """Safe YAML in which 1e-8 is a number, as in YAML 1.2 and in the files that people write."""


_PlanYaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


@dataclass(frozen=True)
class RunData:
    """One finished run. `steps`, `windows` and `validations` are the rows of metrics.jsonl by kind, in step order."""

    folder: Path
    record: dict[str, Any]
    plan: dict[str, Any]
    steps: list[dict[str, Any]]
    windows: list[dict[str, Any]]
    validations: list[dict[str, Any]]
    final: dict[str, Any] | None  # what the final evaluation logged

    @property
    def is_moe(self) -> bool:
        return self.plan["model"]["num_experts"] > 0

    @property
    def counts_bytes(self) -> bool:
        """A token is a byte: token counts are bytes of text and the training loss is bits per byte."""
        return self.plan["model"]["vocab_size"] == 256

    @property
    def target(self) -> Target | None:
        return target_of(self.record, self.plan)

    @property
    def moe_layers(self) -> list[int]:
        """The layers that windows count experts of, in their order."""
        return stored_moe_layers(self.plan)

    @property
    def scored_on(self) -> str:
        """The part of val behind the curve, in words."""
        if self.is_partial:
            return "a capped part of val"
        track = self.plan["track"]
        tokens = track.get("tokens", {}).get("slice_tokens", 0)
        return f"the first {tokens:,} tokens of val" if tokens else f"the first {track['slice_bytes']:,} bytes of val"

    @property
    def is_partial(self) -> bool:
        """Scored on a capped part of val, so no other figure of the track stands beside it."""
        return self.record["metrics"]["partial"]

    @property
    def why_unranked(self) -> str | None:
        """The reasons in one line, or None for a ranked run."""
        if self.record["ranked"]:
            return None
        return "; ".join(self.record["unranked_reasons"]) or "no reason recorded"

    def why_not_beside(self, other: "RunData") -> str | None:
        """Why the bits per byte of the two runs must not share an axis, or None where they may."""
        if self.record["track"] != other.record["track"]:
            return f"it ran on track {other.record['track']}"
        for part in ("train", "val"):
            if self.record["data"][f"{part}_sha256"] != other.record["data"][f"{part}_sha256"]:
                return f"its {part} data has another hash"
        if self.is_partial or other.is_partial:
            return f"{'this run' if self.is_partial else 'it'} was scored on a capped part of val"
        return None

    @property
    def timed(self) -> bool:
        """Its seconds are those of its format: false of an emulated one. bf16 is emulated for everybody on a machine without
        bf16 arithmetic, which its hardware class says."""
        precision = self.record["precision"]
        return precision["execution"] != "emulated" or precision["format"] == "bf16"

    def why_not_timed_beside(self, other: "RunData") -> str | None:
        """Why seconds of the two runs must not share an axis or a rank, or None where they may."""
        if not self.same_class(other):
            return "the hardware classes differ"
        formats = sorted({run.record["precision"]["format"] for run in (self, other) if not run.timed})
        return f"{' and '.join(formats)} is emulated, so its seconds say nothing of the format" if formats else None

    def same_class(self, other: "RunData") -> bool:
        """Whether the two ran on machines of one hardware class."""
        return self.record["hardware_class"] == other.record["hardware_class"]


@dataclass(frozen=True)
class Found:
    """What a search for a finished record met. `folder` is None where no ranked record of the lane exists."""

    folder: Path | None
    same_class: bool
    unranked: int  # records of the lane passed over because they are unranked
    unreadable: list[str] = field(default_factory=list)  # one message for each record that could not be read


def load_run(folder: str | Path) -> RunData:
    """Reads a finished run folder.

    Raises:
        UserError: a file is missing, truncated, corrupt, of a newer schema, or the files do not belong together.
    """
    folder = Path(folder)
    record, plan = read_record(folder), read_stored_plan(folder / "plan.yaml")
    path = folder / "metrics.jsonl"
    rows = read_rows(path)
    steps, windows, validations = rows["step"], rows["window"], rows["validation"]
    if not steps or not windows:
        raise UserError(f"{path} is incomplete: {len(steps)} step rows, {len(windows)} window rows", remedy_of(path))
    for kind in (steps, windows, validations):
        if any(b["step"] <= a["step"] for a, b in zip(kind, kind[1:])):
            raise UserError(f"{path} is corrupt: its {kind[0]['kind']} rows are not in step order", remedy_of(path))
    if steps[-1]["tokens"] < record["metrics"]["tokens"]:
        found, expected = steps[-1]["tokens"], record["metrics"]["tokens"]
        raise UserError(f"{path} is truncated: it ends at {found:,} tokens, the record at {expected:,}", remedy_of(path))
    model, moe_layers = plan["model"], len(stored_moe_layers(plan))
    for window in windows:
        experts = [len(counts) if isinstance(counts, list) else 0 for counts in window["counts"]]
        if experts != [model["num_experts"]] * moe_layers:
            raise UserError(
                f"{path} does not belong to its plan: the window of step {window['step']} counts "
                f"{experts} experts by layer, the plan {[model['num_experts']] * moe_layers}",
                remedy_of(path),
            )
    return RunData(folder, record, plan, steps, windows, validations, rows["final"][-1] if rows["final"] else None)


def read_record(folder: str | Path) -> dict[str, Any]:
    """`record.json` of a run folder, checked against what this room reads."""
    folder = Path(folder)
    path = folder / "record.json"
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}", "finished runs lie at runs/LANE/SEED-PLAN and results/LANE/SEED-PLAN")
    if not path.is_file():
        raise UserError(f"{folder} has no record.json: that run is not finished", "start the same command again: it resumes")
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:  # both JSONDecodeError and UnicodeDecodeError
        raise UserError(f"{path} is truncated or corrupt ({error})", remedy_of(path)) from error
    if not isinstance(record, dict) or not isinstance(record.get("schema_version"), int):
        raise UserError(f"{path} is corrupt: it has no schema_version", remedy_of(path))
    if record["schema_version"] > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {record['schema_version']}, this harness reads up to {SCHEMA_VERSION}",
            "update this checkout: git pull",
        )
    check_fields(record, RECORD_FIELDS, path, "")
    if (target := record["metrics"]["target"]) is not None:
        metric = next((name for name in UNITS if name in target), "slice_bpb")
        check_fields(target, {"line": str, metric: NUMBER}, path, "metrics.target.")
    for row in record["metrics"]["curve"]:
        check_fields(row, CURVE_FIELDS | ({metric: NUMBER} if target else {}), path, "metrics.curve: ")
    if not record["metrics"]["curve"]:
        raise UserError(f"{path} is corrupt: metrics.curve is empty", remedy_of(path))
    for line_id, line in record["lines"].items():
        check_fields(line, LINE_FIELDS, path, f"lines.{line_id}: ")
    if record["router_health"] is not None:
        check_fields(record["router_health"], HEALTH_FIELDS, path, "router_health: ")
    return record


def best_record(folders: Iterable[str | Path], lane: str, hardware_class: str) -> Found:
    """The ranked record of a lane to stand beside another run: of `hardware_class` where there is one, else of any; among
    those the newest. `folders` are searched downwards, usually `["runs", "results"]`; one that does not exist is empty.
    """
    ranked, unranked, unreadable = [], 0, []
    for folder in record_folders(folders):
        try:
            record = read_record(folder)
        except UserError as error:
            unreadable.append(error.problem)
            continue
        if record["lane"] == lane and record["ranked"]:
            ranked.append((record["hardware_class"] == hardware_class, *_age(folder / "record.json", record), folder))
        elif record["lane"] == lane:
            unranked += 1
    if not ranked:
        return Found(None, False, unranked, unreadable)
    same_class, *_, folder = max(ranked)
    return Found(folder, same_class, unranked, unreadable)


def _age(path: Path, record: dict[str, Any]) -> tuple[str, float]:
    """Sorts older before newer. File times mean nothing after a checkout, so they only break ties."""
    finished = record.get("provenance", {}).get("finished_at", "")
    return str(finished), path.stat().st_mtime


def read_stored_plan(path: Path) -> dict[str, Any]:
    """plan.yaml of a run folder as plain numbers, checked against what this room reads. Errors: UserError."""
    if not path.is_file():
        raise UserError(f"{path} is missing", remedy_of(path))
    try:
        plan = yaml.load(path.read_text(), _PlanYaml)
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise UserError(f"{path} is truncated or corrupt ({str(error).splitlines()[0]})", remedy_of(path)) from error
    check_fields(plan, PLAN_FIELDS, path, "")
    return plan


def read_rows(path: Path, ended: bool = True) -> dict[str, list[dict[str, Any]]]:
    """The rows of the kinds this room reads; rows of other kinds are left alone. A run that has not `ended` may be in the
    middle of its last line, which then does not count."""
    if not path.is_file():
        raise UserError(f"{path} is missing", remedy_of(path))
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ROW_FIELDS}
    for number, row in enumerate(_parse_lines(path, ended), 1):
        if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
            raise UserError(f"{path} is corrupt in line {number}: a row without a kind", remedy_of(path))
        if row["kind"] in rows:
            fields = ROW_FIELDS[row["kind"]]
            for key, kind in fields.items():
                if not isinstance(row.get(key, MISSING), kind):
                    check_fields(row, fields, path, f"line {number}: ")
            rows[row["kind"]].append(row)
    return rows


def _parse_lines(path: Path, ended: bool) -> list[Any]:
    """Every line as JSON. A whole file is parsed as one array, three times as fast; only a broken one line by line."""
    content = path.read_bytes()
    lines = (content if ended else content[: content.rfind(b"\n") + 1]).splitlines()
    try:
        parsed = json.loads(b"[%s]" % b",".join(lines))
        if len(parsed) == len(lines):
            return parsed
    except ValueError:
        pass  # the loop below says which line
    parsed = []
    for number, line in enumerate(lines, 1):
        try:
            parsed.append(json.loads(line))
        except ValueError as error:
            what = "truncated: its last line is cut off" if number == len(lines) else f"corrupt in line {number} ({error})"
            raise UserError(f"{path} is {what}", remedy_of(path)) from error
    return parsed
