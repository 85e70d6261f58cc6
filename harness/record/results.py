"""What is in the files of results/ and lanes/ that are written and read back: claims, baselines, studies, anchors."""

from typing import Annotated, Any

from pydantic import Field

from harness.plan.study import StudyFile
from harness.record.schema import Parameters
from harness.values import (
    Closed,
    Count,
    Filled,
    Flag,
    Hex,
    Index,
    Int,
    Least0,
    Model,
    Name,
    Number,
    Positive,
    Text,
    Whole,
    absent,
    one_of,
)  # fmt: skip

CLAIM_VERSION = BASELINE_VERSION = 1
KINDS = ("published", "recomputed", "derived")  # of anchors


class Trials(Model):
    """Plans tried before a claim: found beside its runs, and declared (null: never stated)."""

    found: Whole
    declared: Whole | None

    @property
    def known(self) -> int | None:
        """Whichever is more; None when never stated."""
        return None if self.declared is None else max(self.found, self.declared)


class Submission(Model):
    at: Text
    seeds: list[Int]
    repeats: dict[str, Count] = absent()  # by seed: how often it was run, where that is more than once


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
    stop_step: Count
    seeds: list[Int]
    records: dict[Name, Hex]
    tuning_trials: Trials
    failed_seeds: dict[str, Text]
    submissions: list[Submission]
    replaced: list[Replaced]


class BaselineHealth(Model):
    """One seed's worst layer on val, and the selection biases at the end of training."""

    dead: Whole
    max_load_percent: Least0
    worst_entropy_ratio: Least0
    bias_range_low: Number
    bias_range_high: Number


class Figures(Model):
    """What a baseline keeps of one run: (step, chain) by window, (step, figure) by validation, mean loss by part of the run."""

    chain: Hex
    weights: Hex
    windows: list[tuple[Count, Hex]]
    val_bpb: Positive
    slice_bpb: Annotated[list[tuple[Count, Positive]], Field(min_length=1)]
    loss: Annotated[list[Number], Field(min_length=1)]
    health: BaselineHealth | None
    peak_memory_bytes: Count


class ClassBaseline(Model):
    """The seeds of one plan on one hardware class; `ratios`: step / reference workload, one a process."""

    seeds: Annotated[dict[Index, Figures], Field(min_length=1)]
    ratios: list[Positive]
    workload_version: Whole
    reason: Text
    date: Text
    commit: Text

    @property
    def label(self) -> str:
        return f"baseline of {self.date[:10]} (commit {self.commit[:8]}, {self.reason!r})"


class PlanBaseline(Model):
    plan: dict[str, Any]
    counts: Parameters
    classes: Annotated[dict[str, ClassBaseline], Field(min_length=1)]

    def seed_noise(self, hardware_class: str) -> tuple[str, list[Figures]]:
        """The seeds to take seed noise from: of this class where it has two, else of the class that has most."""
        own = self.classes.get(hardware_class)
        if own is not None and len(own.seeds) > 1:
            return "this hardware class", list(own.seeds.values())
        name, other = max(self.classes.items(), key=lambda item: len(item[1].seeds))
        return f"hardware class {name}", list(other.seeds.values())


class Update(Model):
    """Why the baseline of a plan is what it is."""

    date: Text
    commit: Text
    reason: Text
    plan_hash: Text
    hardware_class: Text
    seeds: list[Int]


class Baseline(Model):
    """results/baselines/LANE.json: by plan hash, and every update that there was."""

    schema_version: Count
    lane: Name
    history: list[Update]
    plans: dict[str, PlanBaseline]


class NamedStudy(StudyFile):
    name: Name


class TrialHealth(Model):
    """The worst layer at the end of a run; `busiest`: rows of its busiest expert over the even share; experts of all layers."""

    worst_entropy_ratio: Number
    busiest: Number
    dead: Whole
    experts: Count


class LoadOverTime(Model):
    """Tokens at the end of each window of training, and the worst layer's figures over it."""

    tokens: list[Count] = []
    entropy_ratio: list[Number] = []
    cv_percent: list[Number] = []
    busiest: list[Number] = []


class TrialNumbers(Model):
    """All that is drawn or tabled of a run of a study."""

    case: Name
    seed: Int
    stopped: Text | None
    unranked_reasons: list[Text]
    slice_bpb: Positive | None
    val_bpb: Positive | None
    tokens_per_second: Positive | None
    curve: list[tuple[Count, Positive]]
    health: TrialHealth | None
    over_time: LoadOverTime
    update_ratio: dict[Name, Number]
    relative_load: list[list[Number]]
    doctor: list[Text]


class StudyHead(Model):
    """What is read of study.json: whoever draws a study again reads its records."""

    study: NamedStudy


class StudyDocument(StudyHead):
    """study.json. The trials are for people and other programs."""

    trials: list[TrialNumbers]


class Anchor(Closed):
    """`value` of `metric` under `protocol`; what else is known of the run or model behind it, None where it is not stated."""

    id: Filled
    protocol: Filled
    metric: Filled
    value: Number
    kind: one_of(*KINDS)
    source: Filled
    word_perplexity: Positive = absent()
    sd: Positive = absent()  # of `value` over `n` runs
    n: Count = absent()
    step: Count = absent()
    tokens: Count = absent()  # trained on
    time_s: Positive = absent()
    target: dict[Filled, Number] = Field({}, min_length=1)  # what a time or a number of samples was needed for
    target_reached: Flag = absent()
    params_active: Count = absent()
    params_total: Count = absent()
    train_flops: Positive = absent()
    hardware: Filled = absent()
    note: Filled = absent()


class Spread(Closed):
    """How far apart identical runs came out: either min, max and mean, or one `value`."""

    what: Filled
    source: Filled
    value: Number = absent()
    min: Number = absent()
    max: Number = absent()
    mean: Number = absent()


class KernelFigure(Closed):
    """An expert MLP's TFLOP/s, forward and backward, at T tokens, width D, expert width F, E experts, top-K."""

    library: Filled
    shape: dict[str, Count]
    forward: Positive
    backward: Positive
    source: Filled


class AnchorFile(Closed):
    """lanes/anchors.yaml: what each protocol id stands for, and rows that are looked at one by one, to be named."""

    protocols: dict[str, Filled]
    anchors: list[Any]
    spreads: list[Any]
    kernels: list[Any]
