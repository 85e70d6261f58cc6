"""What a track asks of its curve: a line or a milestone to get below, or nothing but to spend the budget."""

from dataclasses import dataclass

from harness.plan.schema import Track
from harness.plan.track import nats, shortly


@dataclass(frozen=True)
class Goal:
    """A point of the curve reaches it whose `metric` is at or below `level`: slice_bpb (bits per byte) or slice_loss (nats per
    token), of a track of tasks per answer."""

    id: str
    label: str
    metric: str
    level: float
    format: str = ""  # of the track's tokens

    def as_record(self) -> dict[str, str | float]:
        """The record's `metrics.target`."""
        return {"line": self.id, self.metric: self.level}

    @property
    def unit(self) -> str:
        return CURVE_METRICS[self.metric](self.format)


CURVE_METRICS = {"slice_bpb": shortly, "slice_loss": nats}  # what each is in, by the format of the track's tokens


def slice_length(track: Track) -> int:
    """How much of val the curve is scored on, in the track's unit."""
    return track.tokens.slice_tokens or track.slice_bytes


def levels(track: Track) -> dict[str, Goal]:
    """By id: everything that the curve of the track can pass, its lines and those milestones that are figures of the curve."""
    format, passable = track.tokens.format, {i: m for i, m in track.milestones.items() if m.metric in CURVE_METRICS}
    lines = {i: Goal(i, line.label, "slice_bpb", line.slice, format) for i, line in track.lines.items()}
    return lines | {i: Goal(i, m.label, m.metric, m.value, format) for i, m in passable.items()}


def goal(track: Track) -> Goal | None:
    """None where the track is a fixed budget. `check` has seen that the target is one of the levels."""
    return levels(track)[track.target] if track.target else None
