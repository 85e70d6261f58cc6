"""A finished run folder, read once: `record.json`, `plan.yaml` and `metrics.jsonl` as plain numbers.

Everything in this room starts from `RunData`. Nothing here is trusted to be whole: a run folder may be unfinished, cut short
by a full disk, edited by hand, or written by a newer harness, and each of these is told apart. Whether the numbers are
*true* is the question of `python -m harness verify`, not of this file.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.plan.stored import read_stored_plan, stored_moe_layers
from harness.reading import remedy_of
from harness.record.read import check_shapes, read_record, read_rows
from harness.report.record_folders import record_folders
from harness.report.target import Target, known_lines, target_of


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
    if steps[-1]["tokens"] < record["metrics"]["tokens"]:
        found, expected = steps[-1]["tokens"], record["metrics"]["tokens"]
        raise UserError(f"{path} is truncated: it ends at {found:,} tokens, the record at {expected:,}", remedy_of(path))
    check_shapes(plan, rows, path)
    if (target := record["metrics"]["target"]) and target["line"] not in known_lines(record, plan):
        raise UserError(
            f"{folder / 'record.json'} is corrupt: metrics.target.line is {target['line']!r}, which is no line or milestone",
            remedy_of(folder / "record.json"),
        )
    if (record["router_health"] is None) != (plan["model"]["num_experts"] == 0):
        raise UserError(
            f"{folder / 'record.json'} does not belong to its plan: router_health is "
            f"{'missing' if plan['model']['num_experts'] else 'there'}, the plan has {plan['model']['num_experts']} experts",
            remedy_of(folder / "record.json"),
        )
    return RunData(folder, record, plan, steps, windows, validations, rows["final"][-1] if rows["final"] else None)


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
