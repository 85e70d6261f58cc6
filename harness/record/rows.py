"""What is in metrics.jsonl: the rows by kind, each with the fields that the harness reads. `schema.py` has record.json.

Typed dicts, not models: a long run has many rows, and nothing is built of them but what they are checked against.
"""

from typing import Any, NotRequired

from typing_extensions import TypedDict

from harness.values import Count, Hex, Index, Least0, Measured, Name, Number, Positive, Share, Whole

Counts = list[list[Whole]]  # (L, E) rows by MoE layer and expert


class StepRow(TypedDict):
    step: Count
    tokens: Count
    loss: Number
    grad_norm: NotRequired[Measured]
    lr_scale: NotRequired[Least0]
    auxiliary: NotRequired[dict[Name, Measured]]


class GroupRms(TypedDict):
    """Of a parameter group, on the step that closes a window."""

    grad_rms: Measured
    update_rms: Measured
    param_rms: Measured


class Quantized(TypedDict):
    """Of one tensor that was quantized."""

    snr_db: Measured  # NaN of a tensor of zeros, infinite of an exact one
    underflow: Measured
    saturation: Measured
    smallest: Measured


class Telemetry(TypedDict):
    """What a format below bf16 did, by layer."""

    tensors: NotRequired[dict[Index, dict[Name, Quantized]]]
    flips: NotRequired[dict[Index, dict[Name, Measured]]]
    router_grad_rms: NotRequired[dict[Index, Measured]]
    smallest_step: NotRequired[dict[Index, Measured]]


class WindowRow(TypedDict):
    step: Count
    tokens: Count
    train_s: Least0
    chain: Hex
    counts: Counts
    groups: dict[Name, GroupRms]
    tokens_per_second: Least0
    mfu: Least0
    bias_range: list[Measured]
    dropped: NotRequired[list[Share]]
    precision: NotRequired[Telemetry | None]


class Point(TypedDict):
    """A validation: one point of the curve."""

    step: Count
    tokens: Count
    train_s: Least0
    slice_bpb: Positive
    slice_loss: NotRequired[Positive]  # of a track of tokens
    epoch: NotRequired[Least0]


class FinalRow(TypedDict):
    """The final evaluation."""

    step: Count
    nats: Positive
    targets: Count
    counts: Counts
    val_bpb: Positive
    val_bpb_clean: Positive | None
    slice_bpb_shuffled_routing: Positive | None
    scored_bytes: Count
    target_bytes: NotRequired[Count]
    val_loss: NotRequired[Positive]


ROWS: dict[str, Any] = {"step": StepRow, "window": WindowRow, "validation": Point, "final": FinalRow}
