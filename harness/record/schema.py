"""What is in a record: every field of record.json, with its type, in the order it is written. `rows.py` has metrics.jsonl.

A run writes a `Record`, and everything else reads one. A file without one of these fields, or with another type in it, is
damaged, not merely old; fields that some records do not have say so (`absent`). Fields of a newer harness stay in it.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from harness.plan.goal import CURVE_METRICS
from harness.record.rows import Point
from harness.values import (
    Count,
    Filled,
    Flag,
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

SCHEMA_VERSION = 1


class Target(Model):
    """What the curve was to pass: one of the curve's figures at or below a level."""

    line: Filled
    slice_bpb: Positive = absent()
    slice_loss: Positive = absent()

    @property
    def metric(self) -> str:
        """The figure of the curve that it is about, one of CURVE_METRICS."""
        return self._stated()[0]

    @property
    def level(self) -> float:
        return getattr(self, self.metric)

    def _stated(self) -> list[str]:
        return [name for name in CURVE_METRICS if name in self.model_fields_set]

    @model_validator(mode="after")
    def _has_one_level(self) -> Self:
        if len(stated := self._stated()) != 1:
            raise broken(f"it states {len(stated)} of {', '.join(CURVE_METRICS)}, expected one")
        return self


class Metrics(Model):
    slice_bpb: Positive
    slice_loss: Positive = absent()  # this and val_loss of a track of tokens
    target: Target | None
    target_reached: Flag
    time_to_target_s: Least0 | None
    tokens_to_target: Least0 | None
    curve: Annotated[list[Point], Field(min_length=1)]
    tokens: Count
    tokens_per_second: Positive
    step_s: Positive
    mfu: Positive
    val_bpb: Positive
    val_bpb_clean: Positive | None
    slice_bpb_shuffled_routing: Positive | None
    scored_bytes: Count
    val_loss: Positive = absent()
    partial: Flag
    peak_memory_bytes: Count

    @model_validator(mode="after")
    def _has_what_its_target_is_about(self) -> Self:
        metric = self.target.metric if self.target else "slice_bpb"
        last = self.curve[-1]
        if "val_loss" in self.model_fields_set and "epoch" not in last:
            raise broken(f"curve[{len(self.curve) - 1}].epoch is missing, of a track of tokens")
        parts = [("", self.model_fields_set), *((f"curve[{i}].", point.keys()) for i, point in enumerate(self.curve))]
        for place, has in parts:
            if metric not in has:
                raise broken(f"{place}{metric} is missing, which its target is about")
        return self


class LayerHealth(Model):
    """One MoE layer over all that was scored of val (`harness/record/load.py` says what each figure is)."""

    layer: Whole
    entropy: Least0
    entropy_ratio: Least0
    effective_experts: Least0 = absent()
    cv_percent: Least0 = absent()
    max_load_percent: Least0
    dominance: Least0 = absent()
    active: Whole = absent()
    dead: Whole
    balance: Share = absent()
    margin: Measured = absent()  # between the k-th and the next score
    bias_range: Measured = absent()
    dropped: Share = absent()  # rows beyond a capacity, in training


class RouterHealth(Model):
    layers: Annotated[list[LayerHealth], Field(min_length=1)]
    worst_entropy_ratio: Least0
    dead: Whole
    max_load_percent: Least0
    dominance: Least0 = absent()


class Clock(Model):
    """Seconds by entry of the ledger, those of a newer one among them."""

    __pydantic_extra__: dict[str, Number] = Field(init=False)

    setup_s: Least0 = absent()
    compile_s: Least0
    warmup_s: Least0
    train_s: Positive
    validation_s: Least0
    checkpoint_s: Least0
    final_evaluation_s: Least0
    other_s: Number
    wall_s: Positive


class Parameters(Model):
    """The record's `counts`."""

    params_total: Count
    params_active: Count
    flops_per_token: Count


class Line(Model):
    label: Filled
    slice: Positive
    val: Positive


class Data(Model):
    corpus: Text = absent()
    release: Text = absent()
    train_sha256: Text
    val_sha256: Text
    train_bytes: Whole | None
    val_bytes: Whole
    tokenizer: Text = absent()  # this and the counts below of a track of tokens
    train_tokens: Whole = absent()
    val_tokens: Whole = absent()
    train_documents: Whole = absent()
    val_documents: Whole = absent()


class Hardware(Model):
    """What the machine is, and the peaks that it was measured to have."""

    device: Text = absent()
    model: Text = absent()
    isa: Text = absent()
    threads: Count = absent()
    arithmetic: Text = absent()
    compiled: Flag = absent()
    matmul_peak_flops: Positive
    fp32_peak_flops: Positive = absent()
    memory_bytes_per_s: Positive = absent()
    driver: Text = absent()
    world_size: Count = absent()


class Precision(Model):
    format: Name
    execution: Name

    @property
    def timed(self) -> bool:
        """Whether seconds are those of the format: not of an emulated one. bf16 is emulated for everybody on a machine without
        bf16 arithmetic, which its hardware class says."""
        return self.execution != "emulated" or self.format == "bf16"


class Determinism(Model):
    chain: Hex
    weights: Hex


class Provenance(Model):
    """Where a run came from; the two times are ISO 8601, and who needs a date says what is done without one."""

    commit: Filled
    dirty: Flag
    source_sha256: Hex = absent()
    versions: dict[str, Text] = absent()
    container_image: Text | None = None
    platform: Text = absent()
    overrides: list[Text] = absent()
    started_at: Text = absent()
    finished_at: Text = absent()


class Artifact(Model):
    sha256: Hex
    bytes: Whole


class CoreTask(Model):
    """A row of CORE's `tasks`; the interval is that of `centered_v1`."""

    label: Filled
    type: Text = absent()
    shots: Whole
    n: Count
    correct: Whole = absent()
    accuracy: Number = absent()
    baseline_v1: Number
    baseline_v2: Number = absent()
    centered_v1: Number
    centered_v2: Number = absent()
    interval: tuple[Number, Number]


class Evaluation(Model):
    """What a public test set came to, or why it could not be scored. evaluations.json has every page and example besides; of
    that file only the hash is read."""

    failed: Filled = absent()
    protocol: Filled = absent()
    context: Count = absent()
    sha256: Hex = absent()
    file: Text = absent()  # from here WikiText, with the sums that its figures are ratios of
    bits_per_byte: Positive = absent()
    word_perplexity: Positive = absent()
    byte_perplexity: Positive = absent()
    nats: Positive = absent()
    tokens: Count = absent()
    bytes: Count = absent()
    words: Count = absent()
    examples: Count = absent()  # from here CORE
    core_v1: Number = absent()
    interval_v1: tuple[Number, Number] = absent()
    core_v2: Number = absent()
    interval_v2: tuple[Number, Number] = absent()
    partial: Text | None = None
    tasks: Annotated[list[CoreTask], Field(min_length=1)] = absent()


FIGURES = {
    "wikitext": ("protocol", "bits_per_byte"),
    "core": ("protocol", "core_v1", "interval_v1", "core_v2", "partial", "tasks"),
}


def _whole_or_failed(evaluations: dict[str, Evaluation]) -> dict[str, Evaluation]:
    for name, found in evaluations.items():
        has = found.model_fields_set
        if "failed" not in has and (missing := [key for key in FIGURES.get(name, ()) if key not in has]):
            raise broken(f"{name}.{missing[0]} is missing")
    return evaluations


class Record(Model):
    """record.json."""

    schema_version: Count
    lane: Name
    track: Name
    seed: Int
    ranked: Flag
    unranked_reasons: list[Text]
    resumes: Whole
    fork: Text | None
    plan_hash: Hex
    lane_hash: Hex = absent()
    recipe_hash: Hex = absent()
    hardware_class: Filled
    hardware: Hardware
    precision: Precision
    data: Data
    metrics: Metrics
    evaluations: Annotated[dict[Name, Evaluation], AfterValidator(_whole_or_failed)] = Field(default_factory=dict)
    router_health: RouterHealth | None
    counts: Parameters
    determinism: Determinism
    lines: dict[Name, Line]
    provenance: Provenance
    clock: Clock
    artifacts: dict[Name, Artifact]
    content_sha256: Text = absent()
