"""What is in the other files that runs and jobs leave: identity, stop, checkpoints and re-executions of a run, a job of a
sweep, a probe."""

from typing import Self

from pydantic import model_validator

from harness import values as v
from harness.plan.bounds import TAKEN
from harness.record import checkpoint_files
from harness.record.occupancy import GpuLook
from harness.record.rows import Counts, Point
from harness.revision import speed_class


class Identity(v.Model):
    """identity.json: bits depend on these, but for `ranks`; a run goes on only where all are as they were."""

    plan_hash: v.Hex
    seed: v.Int
    fork: v.Text | None = None
    commit: v.Filled = v.absent()
    source_sha256: v.Hex = v.absent()
    versions: dict[str, v.Text] = v.absent()
    hardware_class: v.Filled
    ranks: v.Count = v.absent()  # that it began with, where they are several and not in the class

    @property
    def speed_class(self) -> str:
        """What must match for its seconds to be compared with others."""
        return speed_class(self.hardware_class, self.ranks or 1)


class Verified(v.Model):
    """verified.json beside a record: the newest re-execution that gave its bits, by code of a commit without changes."""

    record_sha256: v.Hex  # of record.json
    commit: v.Filled
    steps: v.Count
    of: v.Count
    verified_at: v.Text


class Stop(v.Model):
    """stopped.json: what health saw when it stopped a run. `counts`: of a collapse, those of the window that was judged."""

    reason: v.Name
    step: v.Count
    what: v.Text
    remedy: v.Text
    checkpoints: list[v.Whole] = v.absent()
    counts: Counts | None = None


class MonitorState(v.Model):
    """What the health monitor has seen of the open window, and the best one."""

    best: v.Measured = v.absent()
    losses: list[v.Number] = v.absent()
    counts: Counts = v.absent()
    last_dead: v.Whole = v.absent()
    last_dominance: v.Least0 = v.absent()


class RankingState(v.Model):
    """What the bounds of ranking say, where a plan stops by others of its own."""

    monitor: MonitorState = v.absent()
    breaches: dict[v.Name, v.Text] = v.absent()


class OccupancyState(v.Model):
    """What is known of the processors so far: of the whole clock, of the open window, and where that one began."""

    not_measured: v.Text = v.absent()
    total: dict[v.Name, v.Number] = v.absent()
    window: dict[v.Name, v.Number] = v.absent()
    closed_at_s: v.Least0 = v.absent()
    threads: v.Count = v.absent()  # that the run kept busy
    peaks: dict[v.Name, v.Positive] = v.absent()
    gpu: dict[v.Name, GpuLook] = v.absent()
    gpu_not_measured: v.Text = v.absent()


class RunState(v.Model):
    """What a run has besides its tensors (`harness/train/loop.py` has the defaults)."""

    step: v.Count
    chain: v.Hex
    curve: list[Point]
    resumes: v.Whole
    peak_memory_bytes: v.Whole
    metrics_position: v.Whole
    metrics_sha256: v.Text = v.absent()  # checkpoints of before it was kept have none
    monitor: MonitorState
    ranking: RankingState = v.absent()
    window_counts: Counts
    window_dropped: list[v.Whole] = v.absent()
    dropped: list[v.Share] = v.absent()
    occupancy: OccupancyState = v.absent()  # checkpoints of before it was measured have none
    ledger: dict[v.Name, v.Least0]


class CheckpointNote(v.Model):
    """checkpoints/step-*.json: commits the tensors beside it, which one process wrote to a file with this `sha256`, or each
    rank to one of `files`."""

    step: v.Count
    sha256: v.Hex = v.absent()
    files: dict[v.Name, v.Hex] = v.absent()  # sha256 by name, in the order of ranks
    meta: RunState
    note_sha256: v.Hex = v.absent()

    @model_validator(mode="after")
    def _is_of_one_step(self) -> Self:
        if self.meta.step != self.step:
            raise v.broken(f"meta.step is {self.meta.step}, step is {self.step}")
        return self

    @model_validator(mode="after")
    def _has_the_files_of_all_ranks(self) -> Self:
        if (self.sha256 is None) == (self.files is None):
            raise v.broken("it has one of sha256 and files")
        of = len(self.files or ())
        expected = [checkpoint_files.name(self.step, rank, of) for rank in range(of)]
        if self.files is not None and (of < 2 or list(self.files) != expected):
            raise v.broken(f"files are not those of two or more ranks: {', '.join(self.files)}")
        return self

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of each file, by name."""
        return self.files or {checkpoint_files.name(self.step): self.sha256}


class SweepJob(v.Model):
    """job-*.json of a sweep's folder: what a job leaves. `status`: null until it has ended; `errors`: the file that has what it
    said to standard error, where that is not the sweep's own."""

    overrides: list[v.Text]
    status: v.Int | None
    record: v.Filled | None
    errors: v.Filled | None = None


class Replays(v.Model):
    """replay-*.json among the runs, while some of several replays are to come. `done`: the record of each, by its source."""

    done: dict[str, v.Filled]


class Timing(v.Model):
    """A step against the reference workload of that version: seconds of both, and the ratio over `rounds`."""

    version: v.Whole
    step_s: v.Positive = v.absent()
    reference_s: v.Positive = v.absent()
    ratio: v.Positive
    quartiles: tuple[v.Positive, v.Positive] = v.absent()
    rounds: v.Count = v.absent()
    taken: v.Least0 | None = None  # share of the processor time that others took meanwhile; null where it is not known

    @property
    def disturbed(self) -> bool:
        return (self.taken or 0.0) > TAKEN


class UniformScores(v.Model):
    """What a uniform model scores, which is known beforehand: the gate says so where it is something else."""

    all: v.Measured
    slice: v.Measured
    masked: v.Measured
    targets: v.Positive
    expected: v.Positive
    expected_targets: v.Positive


class Probe(v.Model):
    """What `probe` writes for the gate, maybe at another commit."""

    plan_hash: v.Hex = v.absent()
    hardware_class: v.Filled
    timing: Timing
    uniform: UniformScores
