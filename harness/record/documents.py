"""What is in the other files that runs and jobs leave: identity, stop and checkpoints of a run, a job of a sweep, a probe."""

from typing import Self

from pydantic import model_validator

from harness.record.rows import Counts, Point
from harness.values import (
    Count,
    Filled,
    Hex,
    Int,
    Least0,
    Measured,
    Model,
    Name,
    Number,
    Positive,
    Share,
    Text,
    Whole,
    absent,
    broken,
)  # fmt: skip


class Identity(Model):
    """identity.json: bits depend on these; a run goes on only where all are as they were."""

    plan_hash: Hex
    seed: Int
    fork: Text | None = None
    commit: Filled = absent()
    source_sha256: Hex = absent()
    versions: dict[str, Text] = absent()
    hardware_class: Filled


class Stop(Model):
    """stopped.json: what health saw when it stopped a run. `counts`: of a collapse, those of the window that was judged."""

    reason: Name
    step: Count
    what: Text
    remedy: Text
    checkpoints: list[Whole] = absent()
    counts: Counts | None = None


class MonitorState(Model):
    """What the health monitor has seen of the open window, and the best one."""

    best: Measured = absent()
    losses: list[Number] = absent()
    counts: Counts = absent()
    last_dead: Whole = absent()
    last_dominance: Least0 = absent()


class RankingState(Model):
    """What the bounds of ranking say, where a plan stops by others of its own."""

    monitor: MonitorState = absent()
    breaches: dict[Name, Text] = absent()


class RunState(Model):
    """What a run has besides its tensors (`harness/train/loop.py` has the defaults)."""

    step: Count
    chain: Hex
    curve: list[Point]
    resumes: Whole
    peak_memory_bytes: Whole
    metrics_position: Whole
    metrics_sha256: Text = absent()  # checkpoints of before it was kept have none
    monitor: MonitorState
    ranking: RankingState = absent()
    window_counts: Counts
    window_dropped: list[Whole] = absent()
    dropped: list[Share] = absent()
    ledger: dict[Name, Least0]


class CheckpointNote(Model):
    """checkpoints/step-*.json: commits the tensors beside it."""

    step: Count
    sha256: Hex
    meta: RunState
    note_sha256: Hex = absent()

    @model_validator(mode="after")
    def _is_of_one_step(self) -> Self:
        if self.meta.step != self.step:
            raise broken(f"meta.step is {self.meta.step}, step is {self.step}")
        return self


class SweepJob(Model):
    """job-*.json of a sweep's folder: what a job leaves."""

    overrides: list[Text]
    status: Int
    record: Filled | None


class Timing(Model):
    """A step against the reference workload of that version: seconds of both, and the ratio over `rounds`."""

    version: Whole
    step_s: Positive = absent()
    reference_s: Positive = absent()
    ratio: Positive
    quartiles: tuple[Positive, Positive] = absent()
    rounds: Count = absent()


class UniformScores(Model):
    """What a uniform model scores, which is known beforehand: the gate says so where it is something else."""

    all: Measured
    slice: Measured
    masked: Measured
    targets: Positive
    expected: Positive
    expected_targets: Positive


class Probe(Model):
    """What `probe` writes for the gate, maybe at another commit."""

    plan_hash: Hex = absent()
    hardware_class: Filled
    timing: Timing
    uniform: UniformScores
