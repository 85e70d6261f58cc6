"""A finished run, and what it has in common with another one: everything in this room starts from `RunData`."""

from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.files import file_sha256
from harness.plan.track import measure, nats
from harness.reading import is_there, remedy_of
from harness.record.documents import Verified
from harness.record.read import read_record, read_verified
from harness.record.run import Run, read_run
from harness.record.schema import Record

UNITS = {"slice_bpb": measure, "slice_loss": nats}  # by the format of the track's tokens


@dataclass(frozen=True)
class Target:
    """What a track asks of the curve: `metric`, slice_bpb or slice_loss, a figure of every point and of the record's metrics,
    at or below a level."""

    id: str
    label: str
    metric: str
    level: float
    format: str  # of the track's tokens

    @property
    def unit(self) -> str:
        return f"{UNITS[self.metric](self.format)} of the slice"

    @property
    def text(self) -> str:
        return f"{self.level:.4f} {self.unit} ({self.label})"


@dataclass(frozen=True)
class RunData(Run):
    """One finished run."""

    record: Record

    @property
    def target(self) -> Target | None:
        """None where the track is a fixed budget."""
        stated = self.record.metrics.target
        if stated is None:
            return None
        return Target(stated.line, self.labels[stated.line], stated.metric, stated.level, self.track_format)

    @property
    def verified(self) -> Verified | None:
        """The newest re-execution with equal bits of this very record."""
        found = read_verified(self.folder)
        return found if found and found.record_sha256 == file_sha256(self.folder / "record.json") else None

    @property
    def labels(self) -> dict[str, str]:
        """By id: what a target may name. One in nats per token is a milestone of the plan, no line."""
        lines = {name: line.label for name, line in self.record.lines.items()}
        return lines | {name: milestone["label"] for name, milestone in self.plan["track"].get("milestones", {}).items()}

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
        return self.record.metrics.partial

    @property
    def why_unranked(self) -> str | None:
        """The reasons in one line, or None for a ranked run."""
        if self.record.ranked:
            return None
        return "; ".join(self.record.unranked_reasons) or "no reason recorded"

    @property
    def disturbed(self) -> str | None:
        """Why its seconds are not its own, in one line; None where its machine was."""
        return self.record.disturbed

    @property
    def name(self) -> str:
        return f"{self.record.lane} seed {self.record.seed}"

    def why_not_beside(self, other: "RunData") -> str | None:
        """Why the bits per byte of the two runs must not share an axis, or None where they may."""
        if self.record.track != other.record.track:
            return f"it ran on track {other.record.track}"
        for part in ("train", "val"):
            if getattr(self.record.data, f"{part}_sha256") != getattr(other.record.data, f"{part}_sha256"):
                return f"its {part} data has another hash"
        if self.is_partial or other.is_partial:
            return f"{'this run' if self.is_partial else 'it'} was scored on a capped part of val"
        return None

    def why_not_timed_beside(self, other: "RunData") -> str | None:
        """Why seconds of the two runs must not share an axis or a rank, or None where they may."""
        disturbed = [f"{run.name}: {run.disturbed}" for run in (self, other) if run.disturbed]
        return self.why_seconds_differ(other) or "; ".join(disturbed) or None

    def why_seconds_differ(self, other: "RunData") -> str | None:
        """Why seconds of the two are of different things, however quiet their machines were; None where they are not."""
        if not self.same_class(other):
            return "the hardware classes differ"
        formats = sorted({run.record.precision.format for run in (self, other) if not run.record.precision.timed})
        return f"{' and '.join(formats)} is emulated, so its seconds say nothing of the format" if formats else None

    def same_class(self, other: "RunData") -> bool:
        """Whether the two ran on machines of one hardware class, on as many ranks."""
        return self.record.speed_class == other.record.speed_class


def load_run(folder: str | Path) -> RunData:
    """Reads a finished run folder.

    Raises:
        UserError: a file is missing, truncated, corrupt, of a newer schema, or the files do not belong together.
    """
    folder = Path(folder)
    record, log = folder / "record.json", folder / "metrics.jsonl"
    if not is_there(record):
        read_record(folder)  # says what there is instead
    run = RunData(**vars(read_run(folder)))
    if not run.steps or not run.windows:
        raise UserError(f"{log} is incomplete: {len(run.steps)} step rows, {len(run.windows)} window rows", remedy_of(log))
    if (found := run.steps[-1]["tokens"]) < (expected := run.record.metrics.tokens):
        raise UserError(f"{log} is truncated: it ends at {found:,} tokens, the record at {expected:,}", remedy_of(log))
    if (target := run.record.metrics.target) and target.line not in run.labels:
        wrong = f"is corrupt: metrics.target.line is {target.line!r}, which is no line or milestone"
        raise UserError(f"{record} {wrong}", remedy_of(record))
    if (run.record.router_health is None) != (run.experts == 0):
        there = "missing" if run.experts else "there"
        wrong = f"does not belong to its plan: router_health is {there}, the plan has {run.experts} experts"
        raise UserError(f"{record} {wrong}", remedy_of(record))
    return run
