"""What a record's track asks of the curve, as report reads it: a level of one of the curve's figures, or nothing."""

from dataclasses import dataclass
from typing import Any

UNITS = {"slice_bpb": "bits per byte of the slice", "slice_loss": "nats per token of the slice"}


@dataclass(frozen=True)
class Target:
    """`metric`: slice_bpb or slice_loss, a figure of every point of the curve and of the record's metrics."""

    id: str
    label: str
    metric: str
    level: float

    @property
    def unit(self) -> str:
        return UNITS[self.metric]

    @property
    def text(self) -> str:
        return f"{self.level:.4f} {self.unit} ({self.label})"


def target_of(record: dict[str, Any], plan: dict[str, Any]) -> Target | None:
    """None where the track is a fixed budget. A target in nats per token is a milestone of the plan, no line."""
    stated = record["metrics"]["target"]
    if stated is None:
        return None
    (metric,) = stated.keys() & UNITS.keys()
    return Target(stated["line"], known_lines(record, plan)[stated["line"]]["label"], metric, stated[metric])


def known_lines(record: dict[str, Any], plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By id: what a target may name."""
    return record["lines"] | plan["track"].get("milestones", {})
