"""What a track asks of its curve: a line or a milestone to get below, or nothing but to spend the budget."""

from dataclasses import dataclass

from harness.plan.schema import Track


@dataclass(frozen=True)
class Goal:
    """A point of the curve reaches it whose `metric` is at or below `level`: slice_bpb (bits per byte) or slice_loss (nats per
    token)."""

    id: str
    label: str
    metric: str
    level: float

    def as_record(self) -> dict[str, str | float]:
        """The record's `metrics.target`."""
        return {"line": self.id, self.metric: self.level}

    @property
    def unit(self) -> str:
        return CURVE_METRICS[self.metric]


CURVE_METRICS = {"slice_bpb": "bpb", "slice_loss": "nats per token"}


def slice_length(track: Track) -> int:
    """How much of val the curve is scored on, in the track's unit."""
    return track.tokens.slice_tokens or track.slice_bytes


def levels(track: Track) -> dict[str, Goal]:
    """By id: everything that the curve of the track can pass, its lines and those milestones that are figures of the curve."""
    lines = {i: Goal(i, line.label, "slice_bpb", line.slice) for i, line in track.lines.items()}
    return lines | {i: Goal(i, m.label, m.metric, m.value) for i, m in track.milestones.items() if m.metric in CURVE_METRICS}


def goal(track: Track) -> Goal | None:
    """None where the track is a fixed budget. `check` has seen that the target is one of the levels."""
    return levels(track)[track.target] if track.target else None
