"""Finished runs as the points that a law is fitted to, and the ways in which their parameters are counted.

Which parameters count decides the exponent: one and the same grid of dense models gave N ~ C^.37 counting all of them,
C^.54 for matrices and head, and C^.70 for matrices alone (nanochat, discussion 420). So every law is given under each.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import UserError
from harness.record.run import Run

CONVENTIONS = {
    "matrices": "parameters that one token touches, without embedding, head and norms",
    "matrices+head": "parameters that one token touches, without embedding and norms",
    "active": "all parameters that one token touches, embedding and head included",
    "total": "all parameters that are stored",
}


@dataclass(frozen=True)
class Point:
    """A finished run of a series."""

    family: str
    size: int  # the size dial
    budget: float  # training FLOPs that were asked for: its isoFLOP slice
    seed: int
    bpb: float  # bits per byte of all that was scored of val
    flops: float  # of training: tokens * FLOPs per token, as counted
    tokens: int
    seconds: float | None  # of training; None where the run was disturbed, or its format emulated
    params: dict[str, int]  # by convention, keys of CONVENTIONS

    @property
    def flops_per_token(self) -> float:
        return self.flops / self.tokens

    @property
    def place(self) -> tuple[str, float, int]:
        """What seeds of one point of the grid have in common."""
        return self.family, self.budget, self.size


def point_of(run: Run, family: str, size: int, budget: float) -> Point:
    """A finished run as the point of a family.

    Raises:
        UserError: health stopped the run, or it goes on.
    """
    record = run.record
    if record is None:
        raise UserError(f"{run.folder} has not finished, so it is no point of a law", "leave that size out of the series")
    timed = record.precision.timed and not record.disturbed
    tokens = record.metrics.tokens
    return Point(
        family=family, size=size, budget=budget, seed=record.seed, bpb=record.metrics.val_bpb,
        flops=float(tokens * record.counts.flops_per_token), tokens=tokens,
        seconds=record.clock.train_s if timed else None, params=counted(run),
    )  # fmt: skip


def counted(run: Run) -> dict[str, int]:
    """Parameters of a finished run by convention. Gates, scalars and what is read of tables count as matrices."""
    model, counts = run.plan["model"], run.record.counts
    vocabulary = model["vocab_size"] * model["width"]  # of the embedding, and of the head: they are not tied
    norms = model["width"] * (2 * model["layers"] + 1) if model["norm_weight"] else 0
    with_head = counts.params_active - vocabulary - norms
    return {
        "matrices": with_head - vocabulary,
        "matrices+head": with_head,
        "active": counts.params_active,
        "total": counts.params_total,
    }


def in_order(points: Iterable[Point]) -> list[Point]:
    """By family, budget, size and seed, so that a law does not depend on the order in which runs were found."""
    return sorted(points, key=lambda point: (*point.place, point.seed))
