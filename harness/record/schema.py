"""What is in a record: every field of record.json, with its type, in the order it is written. `rows.py` has metrics.jsonl.

A run writes a `Record`, and everything else reads one. A file without one of these fields, or with another type in it, is
damaged, not merely old; fields that some records do not have say so (`absent`). Fields of a newer harness stay in it.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from harness import values as v
from harness.plan.goal import CURVE_METRICS
from harness.record.evaluations import Evaluation as Evaluation
from harness.record.evaluations import whole_or_failed
from harness.record.occupancy import Occupancy, untimed_reasons
from harness.record.rows import Point
from harness.revision import speed_class

SCHEMA_VERSION = 1


class Target(v.Model):
    """What the curve was to pass: one of the curve's figures at or below a level."""

    line: v.Filled
    slice_bpb: v.Positive = v.absent()
    slice_loss: v.Positive = v.absent()

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
            raise v.broken(f"it states {len(stated)} of {', '.join(CURVE_METRICS)}, expected one")
        return self


class Metrics(v.Model):
    slice_bpb: v.Positive
    slice_loss: v.Positive = v.absent()  # this and val_loss of a track of tokens
    target: Target | None
    target_reached: v.Flag
    time_to_target_s: v.Least0 | None
    tokens_to_target: v.Least0 | None
    curve: Annotated[list[Point], Field(min_length=1)]
    tokens: v.Count
    tokens_per_second: v.Positive
    step_s: v.Positive
    mfu: v.Positive
    val_bpb: v.Positive
    val_bpb_clean: v.Positive | None
    slice_bpb_shuffled_routing: v.Positive | None
    scored_bytes: v.Count
    val_loss: v.Positive = v.absent()
    val_parts: dict[v.Name, v.Positive] = v.absent()  # bits per byte of parts of val, and of texts scored beside it
    partial: v.Flag
    peak_memory_bytes: v.Count

    @model_validator(mode="after")
    def _has_what_its_target_is_about(self) -> Self:
        metric = self.target.metric if self.target else "slice_bpb"
        last = self.curve[-1]
        if "val_loss" in self.model_fields_set and "epoch" not in last:
            raise v.broken(f"curve[{len(self.curve) - 1}].epoch is missing, of a track of tokens")
        parts = [("", self.model_fields_set), *((f"curve[{i}].", point.keys()) for i, point in enumerate(self.curve))]
        for place, has in parts:
            if metric not in has:
                raise v.broken(f"{place}{metric} is missing, which its target is about")
        return self


class LayerHealth(v.Model):
    """One MoE layer over all that was scored of val (`harness/record/load.py` says what each figure is)."""

    layer: v.Whole
    entropy: v.Least0
    entropy_ratio: v.Least0
    effective_experts: v.Least0 = v.absent()
    cv_percent: v.Least0 = v.absent()
    max_load_percent: v.Least0
    dominance: v.Least0 = v.absent()
    active: v.Whole = v.absent()
    dead: v.Whole
    balance: v.Share = v.absent()
    margin: v.Measured = v.absent()  # between the k-th and the next score
    bias_range: v.Measured = v.absent()
    dropped: v.Share = v.absent()  # rows beyond a capacity, in training


class RouterHealth(v.Model):
    layers: Annotated[list[LayerHealth], Field(min_length=1)]
    worst_entropy_ratio: v.Least0
    dead: v.Whole
    max_load_percent: v.Least0
    dominance: v.Least0 = v.absent()


class Clock(v.Model):
    """Seconds by entry of the ledger, those of a newer one among them."""

    __pydantic_extra__: dict[str, v.Number] = Field(init=False)

    setup_s: v.Least0 = v.absent()
    compile_s: v.Least0
    warmup_s: v.Least0
    train_s: v.Positive
    validation_s: v.Least0
    checkpoint_s: v.Least0
    peaks_s: v.Least0 = v.absent()
    final_evaluation_s: v.Least0
    other_s: v.Number
    wall_s: v.Positive


class Parameters(v.Model):
    """The record's `counts`."""

    params_total: v.Count
    params_active: v.Count
    flops_per_token: v.Count


class Line(v.Model):
    label: v.Filled
    slice: v.Positive
    val: v.Positive


class SourceOfData(v.Model):
    """A text of a track of several."""

    corpus: v.Filled
    release: v.Filled
    sha256: v.Text  # of the file it is read from; "" where an installed package holds it
    train_bytes: v.Whole
    train_sha256: v.Hex
    val_bytes: v.Whole
    val_sha256: v.Hex
    weight: v.Least0  # of the sequences; 0 of all: each by its size


class TurnedData(v.Model):
    """What training read in place of the track's train (harness/data/turned.py)."""

    documents: v.Whole  # passages that there were
    duplicates: v.Whole = v.absent()  # passages dropped because an equal one came before
    graded_out: v.Whole = v.absent()
    kept: v.Count
    noise_bytes: v.Whole
    read_bytes: v.Count
    read_sha256: v.Hex
    shares: dict[str, v.Share]  # of the sequences, by strand


class Data(v.Model):
    corpus: v.Text = v.absent()
    release: v.Text = v.absent()
    train_sha256: v.Text
    val_sha256: v.Text
    train_bytes: v.Whole | None
    val_bytes: v.Whole
    tokenizer: v.Text = v.absent()  # this and the counts below of a track of tokens
    train_tokens: v.Whole = v.absent()
    val_tokens: v.Whole = v.absent()
    train_documents: v.Whole = v.absent()
    val_documents: v.Whole = v.absent()
    sources: dict[str, SourceOfData] = v.absent()
    turned: TurnedData = v.absent()


class Hardware(v.Model):
    """What the machine is, and the peaks that it was measured to have."""

    device: v.Text = v.absent()
    model: v.Text = v.absent()
    isa: v.Text = v.absent()
    threads: v.Count = v.absent()
    arithmetic: v.Text = v.absent()
    compiled: v.Flag = v.absent()
    matmul_peak_flops: v.Positive
    fp32_peak_flops: v.Positive = v.absent()
    memory_bytes_per_s: v.Positive = v.absent()
    driver: v.Text = v.absent()
    world_size: v.Count = v.absent()


class Precision(v.Model):
    format: v.Name
    execution: v.Name

    @property
    def timed(self) -> bool:
        """Whether seconds are those of the format: not of an emulated one. bf16 is emulated for everybody on a machine without
        bf16 arithmetic, which its hardware class says."""
        return self.execution != "emulated" or self.format == "bf16"


class Determinism(v.Model):
    chain: v.Hex
    weights: v.Hex


class Provenance(v.Model):
    """Where a run came from; the two times are ISO 8601, and who needs a date says what is done without one."""

    commit: v.Filled
    dirty: v.Flag
    source_sha256: v.Hex = v.absent()
    versions: dict[str, v.Text] = v.absent()
    container_image: v.Text | None = None
    platform: v.Text = v.absent()
    threads: dict[str, v.Text] = v.absent()  # environment variables that say how many there are, where, and how they wait
    overrides: list[v.Text] = v.absent()
    started_at: v.Text = v.absent()
    finished_at: v.Text = v.absent()


class Artifact(v.Model):
    sha256: v.Hex
    bytes: v.Whole


class Record(v.Model):
    """record.json."""

    schema_version: v.Count
    lane: v.Name
    track: v.Name
    seed: v.Int
    ranked: v.Flag
    unranked_reasons: list[v.Text]
    untimed_reasons: list[v.Text] = v.absent()
    resumes: v.Whole
    fork: v.Text | None
    plan_hash: v.Hex
    lane_hash: v.Hex = v.absent()
    recipe_hash: v.Hex = v.absent()
    hardware_class: v.Filled
    hardware: Hardware
    precision: Precision
    data: Data
    metrics: Metrics
    evaluations: Annotated[dict[v.Name, Evaluation], AfterValidator(whole_or_failed)] = Field(default_factory=dict)
    router_health: RouterHealth | None
    counts: Parameters
    determinism: Determinism
    lines: dict[v.Name, Line]
    provenance: Provenance
    clock: Clock
    occupancy: Occupancy = v.absent()
    artifacts: dict[v.Name, Artifact]
    content_sha256: v.Text = v.absent()

    @property
    def speed_class(self) -> str:
        """What must match for its seconds to be compared with others."""
        return speed_class(self.hardware_class, self.hardware.world_size or 1)

    @property
    def disturbed(self) -> str | None:
        """Why its seconds are not its own, in one line; None where they are. Its bits per byte are, either way."""
        return "; ".join(untimed_reasons(self.occupancy, self.hardware_class)) or None
