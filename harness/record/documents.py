"""What is in the other files that runs and results have: identity, stop and checkpoints of a run, claims, baselines.

Each is written by one room and read by others; the fields that any of them reads are here, with their types.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from harness.record.rows import Counts, Point
from harness.record.schema import Parameters
from harness.values import (
    Count,
    Filled,
    Hex,
    Index,
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

CLAIM_VERSION = BASELINE_VERSION = 1


class Identity(Model):
    """identity.json: bits depend on these; a run goes on only where all are as they were."""

    plan_hash: Hex
    seed: Int
    hardware_class: Filled
    fork: Text | None = None
    commit: Filled = absent()
    source_sha256: Hex = absent()
    versions: dict[str, Text] = absent()


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


class Trials(Model):
    """Plans tried before a claim: found beside its runs, and declared (null: never stated)."""

    found: Whole
    declared: Whole | None


class Submission(Model):
    at: Text
    seeds: list[Int]


class Replaced(Model):
    """An earlier claim that gave way, and why."""

    reason: Text
    at: Text
    records: dict[Name, Hex]


class Claim(Model):
    """claim-PLAN-CLASS.json: which seeds were submitted together, with the sha256 of each record by folder name."""

    schema_version: Count
    lane: Name
    track: Name
    plan_hash: Hex
    hardware_class: Filled
    seeds: list[Int]
    records: dict[Name, Hex]
    stop_step: Count
    tuning_trials: Trials
    failed_seeds: dict[str, Text]
    submissions: list[Submission]
    replaced: list[Replaced]


class BaselineHealth(Model):
    """Of one seed: the worst layer on val, and the selection biases at the end of training."""

    dead: Whole
    max_load_percent: Least0
    worst_entropy_ratio: Least0
    bias_range_low: Number
    bias_range_high: Number


class BaselineSeed(Model):
    """What a baseline keeps of one run: (step, chain) by window, (step, figure) by validation, mean loss by part of the run."""

    chain: Hex
    weights: Hex
    windows: list[tuple[Count, Hex]]
    val_bpb: Positive
    slice_bpb: Annotated[list[tuple[Count, Positive]], Field(min_length=1)]
    loss: Annotated[list[Number], Field(min_length=1)]
    health: BaselineHealth | None
    peak_memory_bytes: Count


class BaselineClass(Model):
    """The seeds of one plan on one hardware class; `ratios`: step / reference workload, one a process."""

    seeds: Annotated[dict[Index, BaselineSeed], Field(min_length=1)]
    ratios: list[Positive]
    workload_version: Whole
    reason: Text
    date: Text
    commit: Text


class BaselinePlan(Model):
    plan: dict[str, Any]
    counts: Parameters
    classes: Annotated[dict[str, BaselineClass], Field(min_length=1)]


class Update(Model):
    """Why the baseline of a plan is what it is."""

    date: Text
    commit: Text
    reason: Text
    plan_hash: Text
    hardware_class: Text
    seeds: list[Int]


class BaselineFile(Model):
    """results/baselines/LANE.json."""

    schema_version: Count
    lane: Name
    history: list[Update]
    plans: dict[str, BaselinePlan]


class Timing(Model):
    """The step against the reference workload of that version."""

    ratio: Positive
    version: Whole


class UniformScores(Model):
    """What a uniform model scores, which is known beforehand."""

    all: Positive
    slice: Positive
    masked: Positive
    expected: Positive
    targets: Positive
    expected_targets: Positive


class Probe(Model):
    """What `probe` writes for the gate, maybe at another commit."""

    hardware_class: Filled
    timing: Timing
    uniform: UniformScores
