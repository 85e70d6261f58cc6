"""What is in metrics.jsonl: the rows by kind. `schema.py` has record.json.

They are typed dicts, not models: a long run has many rows, and these cost no more than the JSON that they are read from. The
loop writes a row by calling its type. Fields of a newer harness stay in them.
"""

from typing import Any, Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from harness.values import OPEN, Count, Hex, Index, Least0, Measured, Name, Number, Positive, Share, Whole

Counts = list[list[Whole]]  # (L, E) rows by MoE layer and expert


@with_config(OPEN)
class StepRow(TypedDict):
    kind: Literal["step"]
    step: Count
    tokens: Count
    loss: Number
    grad_norm: NotRequired[Measured]
    lr_scale: NotRequired[Least0]
    auxiliary: NotRequired[dict[Name, Measured]]


@with_config(OPEN)
class GroupRms(TypedDict):
    """A parameter group on the step that closes a window."""

    grad_rms: Measured
    update_rms: Measured
    param_rms: Measured


@with_config(OPEN)
class Quantized(TypedDict):
    """One tensor that was quantized."""

    snr_db: Measured  # NaN of a tensor of zeros, infinite of an exact one
    underflow: Measured
    saturation: Measured
    smallest: Measured


@with_config(OPEN)
class Telemetry(TypedDict):
    """What a format below bf16 did, by layer."""

    tensors: NotRequired[dict[Index, dict[Name, Quantized]]]
    flips: NotRequired[dict[Index, dict[Name, Measured]]]
    flip_causes: NotRequired[dict[Index, dict[Name, Measured]]]  # up.weight, up.scale, up.dither: `kernels.observe.causes`
    router_grad_rms: NotRequired[dict[Index, Measured]]
    smallest_step: NotRequired[dict[Index, Measured]]


@with_config(OPEN)
class WindowOccupancy(TypedDict):
    """Whose the processors were over a window, as `occupancy.py` says of a run."""

    cores: Count
    own_s: Number
    others_s: Number
    taken_s: Number
    waited_s: NotRequired[Least0]
    throttled_s: NotRequired[Least0]


@with_config(OPEN)
class WindowRow(TypedDict):
    kind: Literal["window"]
    step: Count
    tokens: Count
    train_s: Least0
    tokens_per_second: Least0
    mfu: Least0
    chain: Hex
    counts: Counts
    bias_range: list[Measured]
    groups: dict[Name, GroupRms]
    precision: NotRequired[Telemetry | None]
    dropped: NotRequired[list[Share]]
    occupancy: NotRequired[WindowOccupancy]


@with_config(OPEN)
class Point(TypedDict):
    """One point of the curve."""

    step: Count
    tokens: Count
    train_s: Least0
    slice_bpb: Positive
    slice_loss: NotRequired[Positive]  # of a track of tokens
    epoch: NotRequired[Least0]


@with_config(OPEN)
class ValidationRow(Point):
    """A validation, which gives a point of the curve."""

    kind: Literal["validation"]


@with_config(OPEN)
class PartScore(TypedDict):
    """A part of val, or a text beside it. `counts`: of a text that was scored for itself."""

    nats: Positive
    bytes: Count
    counts: NotRequired[Counts]


@with_config(OPEN)
class FinalRow(TypedDict):
    """The final evaluation."""

    kind: Literal["final"]
    step: Count
    nats: Positive
    targets: Count
    counts: Counts
    target_bytes: NotRequired[Count]
    val_bpb: Positive
    val_bpb_clean: Positive | None
    slice_bpb_shuffled_routing: Positive | None
    scored_bytes: Count
    val_loss: NotRequired[Positive]
    parts: NotRequired[dict[Name, PartScore]]


ROWS: dict[str, Any] = {"step": StepRow, "window": WindowRow, "validation": ValidationRow, "final": FinalRow}


class Rows(TypedDict):
    """metrics.jsonl by kind of row, each in step order."""

    step: list[StepRow]
    window: list[WindowRow]
    validation: list[ValidationRow]
    final: list[FinalRow]
