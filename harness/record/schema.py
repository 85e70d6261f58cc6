"""What is in a record: the fields of record.json that the harness reads, with their types. `rows.py` has metrics.jsonl.

A file without one of these fields, or with another type in it, is damaged, not merely old; fields that may be absent from
older records say so (`absent`). Fields that a newer harness writes besides are allowed everywhere.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

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
    def metrics(self) -> list[str]:
        return [name for name in CURVE_METRICS if name in self.model_fields_set]

    @model_validator(mode="after")
    def _has_one_level(self) -> Self:
        if len(self.metrics) != 1:
            raise broken(f"it states {len(self.metrics)} of {', '.join(CURVE_METRICS)}, expected one")
        return self


class Metrics(Model):
    val_bpb: Positive
    slice_bpb: Positive
    val_bpb_clean: Positive | None
    slice_bpb_shuffled_routing: Positive | None
    slice_loss: Positive = absent()
    val_loss: Positive = absent()
    target: Target | None
    target_reached: Flag
    time_to_target_s: Least0 | None
    tokens_to_target: Least0 | None
    curve: Annotated[list[Point], Field(min_length=1)]
    tokens: Count
    tokens_per_second: Positive
    step_s: Positive
    mfu: Positive
    peak_memory_bytes: Count
    partial: Flag
    scored_bytes: Count

    @model_validator(mode="after")
    def _has_what_its_target_is_about(self) -> Self:
        metric = self.target.metrics[0] if self.target else "slice_bpb"
        last = self.curve[-1]
        if "val_loss" in self.model_fields_set and "epoch" not in last:
            raise broken(f"curve[{len(self.curve) - 1}].epoch is missing, of a track of tokens")
        parts = [("", self.model_fields_set), *((f"curve[{i}].", point.keys()) for i, point in enumerate(self.curve))]
        for place, has in parts:
            if metric not in has:
                raise broken(f"{place}{metric} is missing, which its target is about")
        return self


class LayerHealth(Model):
    layer: Whole
    entropy: Least0
    entropy_ratio: Least0
    max_load_percent: Least0
    dead: Whole
    effective_experts: Least0 = absent()
    cv_percent: Least0 = absent()
    dominance: Least0 = absent()
    active: Whole = absent()
    balance: Share = absent()
    margin: Measured = absent()
    bias_range: Measured = absent()
    dropped: Share = absent()


class RouterHealth(Model):
    worst_entropy_ratio: Least0
    dead: Whole
    max_load_percent: Least0
    layers: Annotated[list[LayerHealth], Field(min_length=1)]
    dominance: Least0 = absent()


class Clock(Model):
    """Seconds by entry of the ledger, those of a newer one among them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number] = Field(init=False)

    train_s: Positive
    compile_s: Least0
    warmup_s: Least0
    validation_s: Least0
    checkpoint_s: Least0
    final_evaluation_s: Least0
    other_s: Number
    wall_s: Positive
    setup_s: Least0 = absent()


class Parameters(Model):
    """The record's `counts`."""

    params_total: Count
    params_active: Count
    flops_per_token: Positive


class Line(Model):
    label: Filled
    slice: Positive
    val: Positive


class Data(Model):
    train_sha256: Text
    val_sha256: Text
    train_bytes: Whole | None
    val_bytes: Whole


class Hardware(Model):
    matmul_peak_flops: Positive
    threads: Count = absent()


class Precision(Model):
    format: Name
    execution: Name


class Determinism(Model):
    chain: Hex
    weights: Hex


class Provenance(Model):
    commit: Filled
    dirty: Flag
    source_sha256: Hex = absent()
    versions: dict[str, Text] = absent()
    overrides: list[Text] = absent()
    started_at: Text = absent()  # both in ISO 8601; who needs a date says what is done without one
    finished_at: Text = absent()


class Artifact(Model):
    sha256: Hex
    bytes: Whole


class CoreTask(Model):
    """A row of CORE's `tasks`; the interval is that of `centered_v1`."""

    label: Filled
    shots: Whole
    n: Count
    baseline_v1: Number
    centered_v1: Number
    interval: tuple[Number, Number]


class Evaluation(Model):
    """What a public test set came to, or why it could not be scored. evaluations.json has every page and example besides; of
    that file only the hash is read."""

    failed: Filled = absent()
    protocol: Filled = absent()
    bits_per_byte: Positive = absent()
    core_v1: Number = absent()
    core_v2: Number = absent()
    interval_v1: tuple[Number, Number] = absent()
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
    hardware_class: Filled
    hardware: Hardware
    precision: Precision
    data: Data
    metrics: Metrics
    router_health: RouterHealth | None
    counts: Parameters
    determinism: Determinism
    lines: dict[Name, Line]
    provenance: Provenance
    clock: Clock
    artifacts: dict[Name, Artifact]
    evaluations: Annotated[dict[Name, Evaluation], AfterValidator(_whole_or_failed)] = absent()
    content_sha256: Text = absent()
