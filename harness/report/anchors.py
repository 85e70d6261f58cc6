"""Published figures (`lanes/anchors.yaml`) to set beside a measured one, never beside one of another protocol.

An anchor is a fact with its source. The file is checked as a whole whenever it is read, so that a mistake in it is found by the
first reader and not by the figure that needs the entry.
"""

from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import yaml

from harness.errors import UserError, nearest
from harness.plan.lanes import ANCHORS

KINDS = ("published", "recomputed", "derived")
KERNEL_SHAPE = {"T", "D", "F", "E", "K"}
_MEND = "mend the entry, or restore the file with git checkout"


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """`value` of `metric` under `protocol`; what else is known of the run or model behind it, None where it is not stated."""

    id: str
    protocol: str
    metric: str
    value: float
    kind: str  # published | recomputed | derived
    source: str
    word_perplexity: float | None = None
    sd: float | None = None  # of `value` over `n` runs
    n: int | None = None
    step: int | None = None
    tokens: int | None = None  # trained on
    time_s: float | None = None
    target: dict[str, float] = field(default_factory=dict)  # what a time or a number of samples was needed for
    target_reached: bool | None = None
    params_active: int | None = None
    params_total: int | None = None
    train_flops: int | None = None
    hardware: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far apart identical runs came out: either min, max and mean, or one `value`."""

    what: str
    source: str
    value: float | None = None
    min: float | None = None
    max: float | None = None
    mean: float | None = None


@dataclass(frozen=True, kw_only=True)
class KernelFigure:
    """An expert MLP's TFLOP/s, forward and backward, at T tokens, width D, expert width F, E experts, top-K."""

    library: str
    shape: dict[str, int]
    forward: float
    backward: float
    source: str


@dataclass(frozen=True)
class Published:
    protocols: dict[str, str]  # what each protocol id stands for
    anchors: tuple[Anchor, ...]
    spreads: tuple[Spread, ...]
    kernels: tuple[KernelFigure, ...]


def read_anchors(path: Path = ANCHORS) -> Published:
    """Errors: UserError naming the entry and what is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {error}", _MEND) from error
    sections = {section.name for section in fields(Published)}
    if not isinstance(content, dict) or set(content) != sections:
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} has the sections {found}", f"it takes {', '.join(sorted(sections))}")
    protocols = content["protocols"]
    if not isinstance(protocols, dict) or not all(isinstance(text, str) and text for text in protocols.values()):
        raise UserError(f"{path}: protocols are id: what it stands for", _MEND)
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
    rows = content[section]
    if not isinstance(rows, list):
        raise UserError(f"{path}: {section} is no list", _MEND)
    made = []
    for number, row in enumerate(rows, 1):
        wrong = _wrong(row, kind) or check(kind(**row))
        if wrong:
            name = row.get("id", row.get("what", f"number {number}")) if isinstance(row, dict) else f"number {number}"
            raise UserError(f"{path}: {section}, {name}: {wrong}", _MEND)
        made.append(kind(**row))
    return tuple(made)


def _wrong(row: Any, kind: type) -> str:
    """What keeps `row` from being a `kind`: an unknown, missing or empty field, or one of another type; "" if nothing does."""
    if not isinstance(row, dict):
        return "it is no mapping"
    known = {one.name: one for one in fields(kind)}
    for key, value in row.items():
        if key not in known:
            return f"unknown field {key!r}: {nearest(str(key), known)}"
        allowed = _types(known[key].type)
        allowed |= {int} if float in allowed else set()
        if type(value) not in allowed or value in ("", {}):
            return f"{key} is {value!r}, expected {' or '.join(sorted(one.__name__ for one in allowed))}"
    missing = [name for name, one in known.items() if name not in row and one.default is one.default_factory is MISSING]
    return f"it has no {missing[0]}" if missing else ""


def _types(annotation: Any) -> set[type]:
    """float | None is float; dict[str, float] is dict."""
    if isinstance(annotation, UnionType):
        return {one for one in get_args(annotation) if one is not NoneType}
    return {get_origin(annotation) or annotation}


def _check_anchor(anchor: Anchor, protocols: dict[str, str]) -> str:
    if anchor.protocol not in protocols:
        return f"unknown protocol {anchor.protocol!r}: {nearest(anchor.protocol, protocols)}"
    if anchor.kind not in KINDS:
        return f"kind is {anchor.kind!r}, expected {' or '.join(KINDS)}"
    return ""


def _check_kernel(figure: KernelFigure) -> str:
    return "" if set(figure.shape) == KERNEL_SHAPE else f"its shape has {sorted(figure.shape)}, expected {sorted(KERNEL_SHAPE)}"
