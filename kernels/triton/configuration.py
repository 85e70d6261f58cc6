"""Tile sizes of the kernels. They never depend on T, and nothing is tuned in a run: both would change bits.

`configurations.json` holds what `make tune` measured, keyed by device, dtype, D, F, E, K, gated or not, Triton's version, and
the format of a quantization.
Anything else runs with a safe configuration of its dtype, with one warning: tiles whose operands fit the shared memory of any
GPU since sm_80 (the assembler's report for sm_80, sm_90 and sm_100 is asserted in `tests/test_kernels_triton.py`).
"""

import json
import warnings
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import triton

TABLE = Path(__file__).with_name("configurations.json")


@dataclass(frozen=True)
class Tile:
    """`columns` of an output tile, `inner` of the reduction a step, and how it is launched."""

    columns: int
    inner: int
    warps: int
    stages: int

    @property
    def launch(self) -> dict[str, int]:
        return {"BLOCK_K": self.inner, "num_warps": self.warps, "num_stages": self.stages}


@dataclass(frozen=True)
class Configuration:
    """`rows` of a tile of up, down, dh and dx, which share the routing metadata; `dw_rows` of a weight gradient's tile; tokens
    and columns of the combine's."""

    rows: int
    up: Tile
    down: Tile
    dh: Tile
    dx: Tile
    dw_rows: int
    dw_up: Tile
    dw_down: Tile
    combine_tokens: int = 8
    combine_columns: int = 128

    @staticmethod
    def of(content: dict[str, Any]) -> "Configuration":
        return Configuration(**{k: Tile(**v) if isinstance(v, dict) else v for k, v in content.items()})


@dataclass(frozen=True)
class Key:
    """What a configuration was tuned for."""

    device: str
    dtype: str
    D: int
    F: int
    E: int
    K: int
    gated: bool
    triton: str
    format: str

    @staticmethod
    def of(device: str, dtype: torch.dtype, D: int, F: int, E: int, K: int, gated: bool, format: str = "") -> "Key":
        """`format` fp8 | nvfp4, or "" where nothing is quantized."""
        return Key(device, str(dtype).removeprefix("torch."), D, F, E, K, gated, triton.__version__, format)


def _same(rows: int, tile: Tile, dh: Tile, dw: Tile) -> Configuration:
    return Configuration(rows, tile, tile, dh, tile, rows, dw, dw)


# dH's epilogue holds more than the others'; with 8 warps the assembler for sm_100 spills in bf16 weight gradients
_HALF = _same(128, Tile(64, 64, 8, 3), dh=Tile(32, 64, 8, 3), dw=Tile(64, 64, 4, 3))
SAFE = {
    torch.bfloat16: _HALF,
    torch.float16: _HALF,
    torch.float32: _same(32, Tile(32, 32, 4, 2), dh=Tile(32, 32, 4, 2), dw=Tile(32, 32, 4, 2)),
}

# below bf16: fp8 promotes every 128 of the reduction and quantizes the activation in blocks of 128 columns, gate and value
# beside each other, for which 128 rows of 8 warps have too few registers; two stages fit sm_89
_FP8 = replace(_same(64, Tile(128, 128, 8, 2), dh=Tile(64, 128, 8, 2), dw=Tile(64, 64, 4, 3)), dw_rows=128)
_NVFP4 = _same(128, Tile(64, 64, 8, 3), dh=Tile(32, 64, 4, 3), dw=Tile(64, 64, 4, 3))
QUANTIZED = {"fp8": _FP8, "nvfp4": _NVFP4}


def safe(dtype: torch.dtype, format: str) -> Configuration:
    """For operands of `dtype` that are quantized to `format`, if any; fp32 ones take twice the memory, so one stage."""
    if not format:
        return SAFE[dtype]
    c = QUANTIZED[format]
    if dtype != torch.float32:
        return c
    return replace(c, **{name: replace(tile, stages=1) for name, tile in vars(c).items() if isinstance(tile, Tile)})


@cache
def read(path: Path = TABLE) -> dict[Key, Configuration]:
    """
    Raises:
        ValueError: an entry that cannot be read; names it.
    """
    found = {}
    for number, entry in enumerate(_entries(path)):
        try:
            found[Key(**entry["key"])] = Configuration.of(entry["configuration"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}, entry {number}: {error!r}; delete it, `make tune` writes it anew") from error
    return found


def find(key: Key, path: Path = TABLE) -> Configuration | None:
    return read(path).get(key)


def configuration(key: Key, dtype: torch.dtype) -> Configuration:
    """The tuned configuration, or the safe one; says once a process which shapes run untuned on a GPU."""
    tuned = find(key)
    if tuned is None and key.device:
        _warn(key)
    return tuned or safe(dtype, key.format)


def describe(key: Key) -> str:
    """What the starting plan says: the tuned configuration, or that the safe one runs."""
    tuned, dtype = find(key), getattr(torch, key.dtype)
    c = tuned or safe(dtype, key.format)
    tiles = f"{c.rows} rows; columns {c.up.columns} up, {c.down.columns} down, {c.dh.columns} dH, {c.dx.columns} dX"
    untuned = "safe, untuned on this device" + ("" if key.format else " (make tune)")  # which tunes no quantized kernels yet
    return f"{'tuned' if tuned else untuned}: {tiles}"


@cache
def _warn(key: Key) -> None:
    warnings.warn(
        f"no tuned kernel configuration for {key.device}, {key.format or key.dtype}, D={key.D} F={key.F} E={key.E} K={key.K} "
        f"{'gated' if key.gated else 'ungated'}, triton {key.triton}: using the safe one"
        + ("" if key.format else "; `make tune` measures better ones"),
        stacklevel=2,
    )


def store(entries: list[tuple[Key, Configuration, dict[str, float]]], path: Path = TABLE) -> None:
    """Adds entries to a table, each with the milliseconds it was chosen by, in place of those with the same key."""
    old = {Key(**entry["key"]): entry for entry in _entries(path)}
    for key, found, milliseconds in entries:
        old[key] = {"key": asdict(key), "configuration": asdict(found), "milliseconds": milliseconds}
    ordered = sorted(old.values(), key=lambda entry: tuple(map(str, entry["key"].values())))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[" + ",".join("\n" + json.dumps(entry) for entry in ordered) + "\n]\n")
    read.cache_clear()


def _entries(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []
