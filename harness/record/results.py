"""What is in the files of results/ and lanes/ that are written and read back: claims, baselines, studies, anchors."""

from typing import Annotated, Any

from pydantic import Field

from harness import values as v
from harness.plan.study import StudyFile
from harness.record.confirmations import ClaimedSearch
from harness.record.damaged import Interference, Transplant
from harness.record.schema import Parameters

CLAIM_VERSION = BASELINE_VERSION = 1
KINDS = ("published", "recomputed", "derived")  # of anchors


class Trials(v.Model):
    """Plans tried before a claim: found beside its runs, and declared (null: never stated)."""

    found: v.Whole
    declared: v.Whole | None

    @property
    def known(self) -> int | None:
        """Whichever is more; None when never stated."""
        return None if self.declared is None else max(self.found, self.declared)


class Submission(v.Model):
    at: v.Text
    seeds: list[v.Int]
    repeats: dict[str, v.Count] = v.absent()  # by seed: how often it was run, where that is more than once
    disturbed: dict[str, v.Text] = v.absent()  # by seed: why its seconds are no claim


class Replaced(v.Model):
    """An earlier claim that gave way, and why."""

    reason: v.Text
    at: v.Text
    records: dict[v.Name, v.Hex]


class Claim(v.Model):
    """claim-PLAN-CLASS.json: which seeds were submitted together, with the sha256 of each record by folder name."""

    schema_version: v.Count
    lane: v.Name
    track: v.Name
    plan_hash: v.Hex
    hardware_class: v.Filled
    stop_step: v.Count
    seeds: list[v.Int]
    records: dict[v.Name, v.Hex]
    tuning_trials: Trials
    search: ClaimedSearch = v.absent()
    failed_seeds: dict[str, v.Text]
    submissions: list[Submission]
    replaced: list[Replaced]


class BaselineHealth(v.Model):
    """One seed's worst layer on val, and the selection biases at the end of training."""

    dead: v.Whole
    max_load_percent: v.Least0
    worst_entropy_ratio: v.Least0
    bias_range_low: v.Number
    bias_range_high: v.Number


class Figures(v.Model):
    """What a baseline keeps of one run: (step, chain) by window, (step, figure) by validation, mean loss by part of the run."""

    chain: v.Hex
    weights: v.Hex
    windows: list[tuple[v.Count, v.Hex]]
    val_bpb: v.Positive
    slice_bpb: Annotated[list[tuple[v.Count, v.Positive]], Field(min_length=1)]
    loss: Annotated[list[v.Number], Field(min_length=1)]
    health: BaselineHealth | None
    peak_memory_bytes: v.Count


class ClassBaseline(v.Model):
    """The seeds of one plan on one hardware class; `ratios`: step / reference workload, one a process."""

    seeds: Annotated[dict[v.Index, Figures], Field(min_length=1)]
    ratios: list[v.Positive]
    workload_version: v.Whole
    reason: v.Text
    date: v.Text
    commit: v.Text

    @property
    def label(self) -> str:
        return f"baseline of {self.date[:10]} (commit {self.commit[:8]}, {self.reason!r})"


class PlanBaseline(v.Model):
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


class Update(v.Model):
    """Why the baseline of a plan is what it is."""

    date: v.Text
    commit: v.Text
    reason: v.Text
    plan_hash: v.Text
    hardware_class: v.Text
    seeds: list[v.Int]


class Baseline(v.Model):
    """results/baselines/LANE.json: by plan hash, and every update that there was."""

    schema_version: v.Count
    lane: v.Name
    history: list[Update]
    plans: dict[str, PlanBaseline]


class NamedStudy(StudyFile):
    name: v.Name


class TrialHealth(v.Model):
    """The worst layer at the end of a run; `busiest`: rows of its busiest expert over the even share; experts of all layers."""

    worst_entropy_ratio: v.Number
    busiest: v.Number
    dead: v.Whole
    experts: v.Count


class LoadOverTime(v.Model):
    """Tokens at the end of each window of training, and the worst layer's figures over it."""

    tokens: list[v.Count] = []
    entropy_ratio: list[v.Number] = []
    cv_percent: list[v.Number] = []
    busiest: list[v.Number] = []


class TrainOverTime(v.Model):
    """How often a run read its text (0: what of all of train the budget reached), how many bytes that was, and its training
    loss: bits a token over spans of training, by the tokens at the end of each, and over the last sixteenth of training, which
    of 16 passes is the last one."""

    passes: v.Whole
    read_bytes: v.Count | None
    tokens: list[v.Count]
    bits: list[v.Number]
    last_bits: v.Number | None


class TaskNumbers(v.Model):
    """Nats that experts tell of a task beyond the control, whether a layer's are above it; a score of which more is better."""

    specialisation: v.Number
    above: v.Flag
    score: v.Number | None


class LayerNumbers(v.Model):
    """Nats that the experts of a layer tell of the task of a token, of shuffled tasks, and, less the like of shuffled tasks, of
    the task beyond what the token's id tells of it."""

    layer: v.Whole
    told: v.Number
    shuffled: v.Number
    beyond_ids: v.Number


class TrialRouting(v.Model):
    """Experts and tasks of a run that was inspected. `called`: so many of `experts` are chosen for one task more than for
    others; `silenced`: nats more per answer that their absence costs it, and others."""

    layers: list[LayerNumbers]
    called: v.Whole
    experts: v.Whole
    silenced: tuple[v.Number, v.Number] | None
    tasks: dict[v.Name, TaskNumbers]


class TrialDamage(v.Model):
    """What interfering with the routers of a run cost: of all MoE layers at once, and routers of checkpoints layer by layer."""

    interferences: list[Interference]
    transplants: list[Transplant]


class TrialRace(v.Model):
    """Training seconds of the whole budget, null where they are not the run's own; what the target is about, at the end."""

    train_s: v.Positive | None
    figure: v.Positive | None


class TrialNumbers(v.Model):
    """All that is drawn or tabled of a run of a study."""

    case: v.Name
    seed: v.Int
    stopped: v.Text | None
    unranked_reasons: list[v.Text]
    slice_bpb: v.Positive | None
    val_bpb: v.Positive | None
    tokens_per_second: v.Positive | None
    curve: list[tuple[v.Count, v.Positive]]
    health: TrialHealth | None
    over_time: LoadOverTime
    update_ratio: dict[v.Name, v.Number]
    relative_load: list[list[v.Number]]
    doctor: list[v.Text]
    routing: TrialRouting = v.absent()
    damage: TrialDamage = v.absent()
    train: TrainOverTime = v.absent()
    val_parts: dict[v.Name, v.Positive] = v.absent()
    race: TrialRace = v.absent()


class StudyHead(v.Model):
    """What is read of study.json: whoever draws a study again reads its records."""

    study: NamedStudy


class StudyDocument(StudyHead):
    """study.json. The trials are for people and other programs."""

    trials: list[TrialNumbers]


class Predicted(v.Model):
    """What is said of a point ahead of a series' budgets before it is run; `n` parameters counted as `convention` has them."""

    family: v.Name
    size: v.Count
    budget: v.Positive
    tokens: v.Count
    convention: v.Filled
    n: v.Count
    bpb: v.Positive
    low: v.Positive | None
    high: v.Positive | None
    resamples: v.Count
    failed: v.Whole
    naive: v.Positive | None
    fitted: v.Count


class Foretold(v.Model):
    """Predictions made at one time (ISO 8601) of the same records: by CASE/SEED the sha256 of record.json."""

    at: v.Filled
    records: Annotated[dict[v.Filled, v.Hex], Field(min_length=1)]
    points: Annotated[list[Predicted], Field(min_length=1)]


class PredictionFile(v.Model):
    """prediction.json of a series, the last one made last; earlier ones were made of fewer runs."""

    series: v.Name
    made: Annotated[list[Foretold], Field(min_length=1)]


class Anchor(v.Closed):
    """`value` of `metric` under `protocol`; what else is known of the run or model behind it, None where it is not stated."""

    id: v.Filled
    protocol: v.Filled
    metric: v.Filled
    value: v.Number
    kind: v.one_of(*KINDS)
    source: v.Filled
    lane: v.Name = v.absent()  # of ours, that has the shape of what was trained
    word_perplexity: v.Positive = v.absent()
    sd: v.Positive = v.absent()  # of `value` over `n` runs
    n: v.Count = v.absent()
    step: v.Count = v.absent()
    tokens: v.Count = v.absent()  # trained on
    time_s: v.Positive = v.absent()
    target: dict[v.Filled, v.Number] = Field({}, min_length=1)  # what a time or a number of samples was needed for
    target_reached: v.Flag = v.absent()
    params_active: v.Count = v.absent()
    params_total: v.Count = v.absent()
    train_flops: v.Positive = v.absent()
    hardware: v.Filled = v.absent()
    note: v.Filled = v.absent()


class Spread(v.Closed):
    """How far apart identical runs came out: either min, max and mean, or one `value`."""

    what: v.Filled
    source: v.Filled
    value: v.Number = v.absent()
    min: v.Number = v.absent()
    max: v.Number = v.absent()
    mean: v.Number = v.absent()


class KernelFigure(v.Closed):
    """An expert MLP's TFLOP/s, forward and backward, at T tokens, width D, expert width F, E experts, top-K."""

    library: v.Filled
    shape: dict[str, v.Count]
    forward: v.Positive
    backward: v.Positive
    source: v.Filled


class AnchorFile(v.Closed):
    """lanes/anchors.yaml: what each protocol id stands for, and rows that are looked at one by one, to be named."""

    protocols: dict[str, v.Filled]
    anchors: list[Any]
    spreads: list[Any]
    kernels: list[Any]
