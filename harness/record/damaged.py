"""damage.json, which `make damage` writes: what interfering with a finished run's routers cost, and what foretold it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness import values as v
from harness.files import replace_atomically
from harness.record.atlas import AtlasProbe
from harness.record.inspected import InspectedRun, Span
from harness.record.sealed import read_sealed, sealed

DAMAGE_VERSION = 1
DAMAGE_FILE = "damage.json"
REMEDY = "make damage RUN=... makes it anew"


class DamagedModel(v.Model):
    moe_layers: list[v.Whole]
    experts: v.Count
    top_k: v.Count
    router: v.Name
    step: v.Count


class LayerLoad(v.Model):
    """Tokens of the probe that chose each expert."""

    layer: v.Whole
    chosen: list[v.Whole]


class Row(v.Model):
    """`nats`: a token more, with its interval over windows; `layer`: null of all MoE layers at once; `foretold`: what
    `harness/evaluate/damage/foretold.py` names."""

    layer: v.Whole | None
    nats: Span | None
    foretold: dict[v.Name, v.Number]


class Transplant(Row):
    """The router of a checkpoint in the last model."""

    step: v.Whole


class Interference(Row):
    """`which` experts, a `share` of a layer's, and `what` is done to them."""

    share: v.Share
    which: v.Name
    what: v.Name


class Damage(v.Model):
    schema_version: v.Count
    run: InspectedRun
    model: DamagedModel
    probe: AtlasProbe
    seed: v.Int
    nats: v.Number  # a token, before anything is interfered with
    loads: list[LayerLoad]
    interferences: list[Interference]
    transplants: list[Transplant]
    index_sha256: v.Hex


R = TypeVar("R", bound=Row)


def at_once(rows: Sequence[R]) -> list[R]:
    """Those of all MoE layers at once: of a model with one of them, all."""
    return [row for row in rows if row.layer is None] or list(rows)


def alone(rows: Sequence[R]) -> list[R]:
    """Those of one layer each."""
    return [row for row in rows if row.layer is not None]


def write_damage(path: Path, content: dict[str, Any]) -> None:
    """`content`: a Damage as JSON data, without its hash. Raises: OSError."""
    said = json.dumps(sealed(content), separators=(",", ":"), allow_nan=False)
    for start in ('{"layer"', '{"share"', '{"step"'):
        said = said.replace(start, f"\n{start}")
    replace_atomically(path, [said.encode(), b"\n"])


def read_damage(path: Path) -> Damage:
    """Raises: UserError when it cannot be read, or was changed since it was written."""
    return read_sealed(path, Damage, REMEDY, DAMAGE_VERSION)
