"""Published figures (`lanes/anchors.yaml`) to set beside a measured one, never beside one of another protocol.

An anchor is a fact with its source. The file is checked as a whole whenever it is read, so that a mistake in it is found by the
first reader and not by the figure that needs the entry.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.errors import UserError, nearest
from harness.plan.lanes import ANCHORS
from harness.reading import faults, read_yaml
from harness.values import Closed, Count, Filled, Flag, Number, Positive, absent, one_of

KINDS = ("published", "recomputed", "derived")
KERNEL_SHAPE = {"T", "D", "F", "E", "K"}
_MEND = "mend the entry, or restore the file with git checkout"


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


class _Sections(Closed):
    """lanes/anchors.yaml. The rows are looked at one by one, to be named."""

    protocols: dict[str, Filled]
    anchors: list[Any]
    spreads: list[Any]
    kernels: list[Any]


@dataclass(frozen=True)
class Published:
    protocols: dict[str, str]  # what each protocol id stands for
    anchors: tuple[Anchor, ...]
    spreads: tuple[Spread, ...]
    kernels: tuple[KernelFigure, ...]


def read_anchors(path: Path = ANCHORS) -> Published:
    """Errors: UserError naming the entry and what is wrong with it."""
    content = read_yaml(path, _Sections, _MEND)
    protocols = content["protocols"]
    anchors = _entries(path, "anchors", content, Anchor, lambda anchor: _check_anchor(anchor, protocols))
    ids = [anchor.id for anchor in anchors]
    for twice in sorted({name for name in ids if ids.count(name) > 1}):
        raise UserError(f"{path}: two anchors are called {twice}", "give each its own id")
    return Published(
        protocols,
        anchors,
        _entries(path, "spreads", content, Spread, lambda spread: ""),
        _entries(path, "kernels", content, KernelFigure, _check_kernel),
    )


def anchors_for(protocol: str, metric: str | None = None, path: Path = ANCHORS) -> list[Anchor]:
    """The anchors of one protocol (and metric), in the file's order. Errors: UserError for an unknown protocol."""
    published = read_anchors(path)
    if protocol not in published.protocols:
        raise UserError(f"unknown protocol {protocol!r}", nearest(protocol, published.protocols))
    return [anchor for anchor in published.anchors if anchor.protocol == protocol and metric in (None, anchor.metric)]


def the_protocol(anchors: Iterable[Anchor]) -> str:
    """The one protocol of figures that are to share a table, an axis or a rank.

    Errors: UserError where they have several, or several metrics, or there are none.
    """
    anchors = list(anchors)
    for what in ("protocol", "metric"):
        kinds = {getattr(anchor, what): anchor.id for anchor in reversed(anchors)}
        if len(kinds) != 1:
            found = ", ".join(f"{name} ({kind})" for kind, name in sorted(kinds.items(), key=lambda item: item[1]))
            raise UserError(
                f"these figures have not one {what}: {found or 'there are none'}", "show each in a table of its own"
            )
    return anchors[0].protocol


def _entries(path: Path, section: str, content: dict[str, Any], kind: type, check: Callable[[Any], str]) -> tuple[Any, ...]:
    """The section's rows as `kind`; `check` returns what is wrong with one, or ""."""
    made = []
    for number, row in enumerate(content[section], 1):
        wrong = "; ".join(faults(row, kind)) or check(kind(**row))
        if wrong:
            name = row.get("id", row.get("what", f"number {number}")) if isinstance(row, dict) else f"number {number}"
            raise UserError(f"{path}: {section}, {name}: {wrong}", _MEND)
        made.append(kind(**row))
    return tuple(made)


def _check_anchor(anchor: Anchor, protocols: dict[str, str]) -> str:
    if anchor.protocol not in protocols:
        return f"unknown protocol {anchor.protocol!r}: {nearest(anchor.protocol, protocols)}"
    return ""


def _check_kernel(figure: KernelFigure) -> str:
    return "" if set(figure.shape) == KERNEL_SHAPE else f"its shape has {sorted(figure.shape)}, expected {sorted(KERNEL_SHAPE)}"
