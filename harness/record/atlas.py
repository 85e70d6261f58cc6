"""A router's receipt as it lies in a folder: `receipt.safetensors`, and `atlas.json` with what it is of and its figures.

The index states the hash of the arrays and one of itself, so that neither can be changed unseen.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from harness import values as v
from harness.errors import UserError
from harness.files import replace_atomically
from harness.reading import read_bytes
from harness.record.inspected import Span
from harness.record.sealed import read_sealed, sealed

ATLAS_VERSION = 1
ATLAS_FILE, RECEIPT_FILE = "atlas.json", "receipt.safetensors"
MOST_BYTES = 1 << 34  # of a receipt
REMEDY = "make atlas RUN=... makes it anew"


class AtlasRun(v.Model):
    lane: v.Text
    seed: v.Int
    plan_hash: v.Hex
    content_sha256: v.Hex | None


class AtlasModel(v.Model):
    moe_layers: list[v.Whole]
    experts: v.Count
    top_k: v.Count
    router: v.Name
    vocabulary: v.Count


class AtlasProbe(v.Model):
    of: v.Text
    windows: v.Count
    tokens: v.Count
    sha256: v.Hex


class Taken(v.Model):
    """A checkpoint that was read; `sha256`: of its weights as they lay there, null of the untrained model."""

    step: v.Whole
    sha256: v.Hex | None


class Margin(v.Model):
    mean: Span | None
    quantiles: list[v.Number]  # 1, 10, 50 and 90%
    ties: v.Whole


class Settled(v.Model):
    """A layer at a checkpoint."""

    step: v.Whole
    layer: v.Whole
    margin: Margin | None
    effective: Span | None
    unused: v.Whole
    busiest: v.Share


class ToldByExpert(v.Model):
    """What a chosen expert tells of a label, in nats."""

    step: v.Whole
    layer: v.Whole
    of: v.Text
    beyond_ids: v.Flag
    information: v.Number
    interval: tuple[v.Number, v.Number]
    control: Span
    above: v.Flag


class Pair(v.Model):
    """Two experts that stand beside each other, or the last chosen and the next one; shares of tokens."""

    step: v.Whole
    layer: v.Whole
    pair: tuple[v.Whole, v.Whole]
    share: Span
    control: Span


class Channels(v.Model):
    """Shares of chosen experts that are others afterwards."""

    router: Span | None
    inputs: Span | None
    biases: Span | None
    all: Span | None


class Boundary(v.Model):
    near: Span | None
    near_by_chance: v.Share
    next: Span | None
    next_by_chance: v.Share


class Drift(v.Model):
    """A layer at two checkpoints."""

    step: v.Whole
    to: v.Whole
    layer: v.Whole
    jaccard: Span | None
    control: Span | None
    channels: Channels | None
    boundary: Boundary | None


class Atlas(v.Model):
    schema_version: v.Count
    run: AtlasRun
    model: AtlasModel
    probe: AtlasProbe
    taken: list[Taken]
    settled: list[Settled]
    told: list[ToldByExpert]
    beside: list[Pair]
    behind: list[Pair]
    drift: list[Drift]
    receipt_sha256: v.Hex
    index_sha256: v.Hex


@dataclass(frozen=True)
class Receipt:
    folder: Path
    index: Atlas
    arrays: dict[str, np.ndarray]

    @property
    def steps(self) -> list[int]:
        return [taken.step for taken in self.index.taken]

    def of(self, step: int, layer: int, name: str) -> np.ndarray:
        """`name`: as `harness/evaluate/atlas/receipt.py` lists them. Raises: KeyError."""
        return self.arrays[f"{step:06d}/{layer}/{name}"]


def write_atlas(folder: Path, index: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """`index`: an Atlas as JSON data, without its hashes. Raises: OSError."""
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    index = sealed(index | {"receipt_sha256": hashlib.sha256(content).hexdigest()})
    replace_atomically(folder / RECEIPT_FILE, [content])
    replace_atomically(folder / ATLAS_FILE, [json.dumps(index, indent=1, allow_nan=False).encode(), b"\n"])


def read_atlas(folder: Path) -> Receipt:
    """Raises: UserError when a file is missing, no receipt, or was changed since it was written."""
    path = folder / ATLAS_FILE
    index = read_sealed(path, Atlas, REMEDY, ATLAS_VERSION)
    there = folder / RECEIPT_FILE
    packed = read_bytes(there, REMEDY, MOST_BYTES)
    if hashlib.sha256(packed).hexdigest() != index.receipt_sha256:
        raise UserError(f"{there} was changed after it was written: its sha256 is not the one that {path} states", REMEDY)
    try:
        return Receipt(folder, index, load(packed))
    except SafetensorError as error:
        raise UserError(f"{there} cannot be read: {error}", REMEDY) from error
