"""Published figures (`lanes/anchors.yaml`) to set beside a measured one, never beside one of another protocol.

An anchor is a fact with its source. The file is checked as a whole whenever it is read, so that a mistake in it is found by the
first reader and not by the figure that needs the entry.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError, nearest
from harness.plan.lanes import ANCHORS, lane_names
from harness.reading import faults, read_yaml
from harness.record.results import Anchor, AnchorFile, KernelFigure, Spread

KERNEL_SHAPE = {"T", "D", "F", "E", "K"}
_MEND = "mend the entry, or restore the file with git checkout"


@dataclass(frozen=True)
class Published:
    protocols: dict[str, str]  # what each protocol id stands for
    anchors: tuple[Anchor, ...]
    spreads: tuple[Spread, ...]
    kernels: tuple[KernelFigure, ...]


def read_anchors(path: Path = ANCHORS) -> Published:
    """All published figures, checked as a whole.

    Raises:
        UserError: an entry is wrong; it names that, and how.
    """
    file = read_yaml(path, AnchorFile, _MEND)
    protocols = file.protocols
    anchors = _entries(path, "anchors", file.anchors, Anchor, lambda anchor: _check_anchor(anchor, protocols))
    ids = [anchor.id for anchor in anchors]
    for twice in sorted({name for name in ids if ids.count(name) > 1}):
        raise UserError(f"{path}: two anchors are called {twice}", "give each its own id")
    return Published(
        protocols,
        anchors,
        _entries(path, "spreads", file.spreads, Spread, lambda spread: ""),
        _entries(path, "kernels", file.kernels, KernelFigure, _check_kernel),
    )


def anchors_for(protocol: str, metric: str | None = None, path: Path = ANCHORS) -> list[Anchor]:
    """The anchors of one protocol (and metric), in the file's order.

    Raises:
        UserError: the protocol is unknown.
    """
    published = read_anchors(path)
    if protocol not in published.protocols:
        raise UserError(f"unknown protocol {protocol!r}", nearest(protocol, published.protocols))
    return [anchor for anchor in published.anchors if anchor.protocol == protocol and metric in (None, anchor.metric)]


def anchors_of_lane(lane: str, path: Path = ANCHORS) -> dict[str, list[Anchor]]:
    """What was published of models of the lane's shape, by protocol, in the file's order; nothing where nobody did."""
    found: dict[str, list[Anchor]] = {}
    for anchor in read_anchors(path).anchors:
        if anchor.lane == lane:
            found.setdefault(anchor.protocol, []).append(anchor)
    return found


def the_protocol(anchors: Iterable[Anchor]) -> str:
    """The one protocol of figures that are to share a table, an axis or a rank.

    Raises:
        UserError: they have several, or several metrics, or there are none.
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


def _entries(path: Path, section: str, rows: list[Any], kind: type, check: Callable[[Any], str]) -> tuple[Any, ...]:
    """The section's rows as `kind`; `check` returns what is wrong with one, or ""."""
    made = []
    for number, row in enumerate(rows, 1):
        wrong = "; ".join(faults(row, kind)) or check(kind(**row))
        if wrong:
            name = row.get("id", row.get("what", f"number {number}")) if isinstance(row, dict) else f"number {number}"
            raise UserError(f"{path}: {section}, {name}: {wrong}", _MEND)
        made.append(kind(**row))
    return tuple(made)


def _check_anchor(anchor: Anchor, protocols: dict[str, str]) -> str:
    if anchor.protocol not in protocols:
        return f"unknown protocol {anchor.protocol!r}: {nearest(anchor.protocol, protocols)}"
    if anchor.lane is not None and anchor.lane not in lane_names():
        return f"unknown lane {anchor.lane!r}: {nearest(anchor.lane, lane_names())}"
    return ""


def _check_kernel(figure: KernelFigure) -> str:
    return "" if set(figure.shape) == KERNEL_SHAPE else f"its shape has {sorted(figure.shape)}, expected {sorted(KERNEL_SHAPE)}"
