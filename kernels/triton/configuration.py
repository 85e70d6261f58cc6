"""Tile sizes of the kernels. They never depend on T, and nothing is tuned in a run: both would change bits.

What a shape runs with is the first of these that there is, and the starting plan says which:

1. the entry of `configurations.json` for it: what `make tune` measured on this GPU, for these D, F, E and K, gated or not, in
   this dtype and format, under this Triton;
2. an entry for another E, K, version of Triton or GPU of the same compute capability, the nearest: D and F decide what a tile
   holds;
3. the default of the compute capability (Hopper, bf16), from what the assembler says of registers and shared memory;
4. a safe configuration of its dtype, with one warning: tiles whose operands fit the shared memory of any GPU since sm_80.

What the assembler reports for sm_80, sm_90 and sm_100 is asserted in `tests/test_kernels_triton.py`, and printed by
`make bench SET=resources`. Neither the table nor Triton's version can change the bits of a record unseen: the one is part of
the source, the other of the hardware class.
"""

import json
import math
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

    @property
    def fold_up(self) -> Tile:
        return folding(self.dw_rows, self.dw_up)

    @property
    def fold_down(self) -> Tile:
        return folding(self.dw_rows, self.dw_down)

    @staticmethod
    def of(content: dict[str, Any]) -> "Configuration":
        return Configuration(**{k: Tile(**v) if isinstance(v, dict) else v for k, v in content.items()})


SUMS = 128  # fp32 sums that a thread can hold beside what it computes places with


def folding(rows: int, tile: Tile) -> Tile:
    """The tile of a weight gradient of `rows` rows, made to hold the total that it is added to as well: of as many inner
    elements, so that its sums are the same; of twice the warps up to 8, then of fewer columns, until a thread holds both."""
    while 2 * rows * tile.columns > SUMS * 32 * tile.warps:
        tile = replace(tile, warps=2 * tile.warps) if tile.warps < 8 else replace(tile, columns=tile.columns // 2)
    return tile


@dataclass(frozen=True)
class Key:
    """What a configuration was tuned for, and where."""

    device: str
    capability: str  # sm_90; "" where no GPU is
    dtype: str
    D: int
    F: int
    E: int
    K: int
    gated: bool
    triton: str
    format: str

    @staticmethod
    def of(
        device: str, capability: str, dtype: torch.dtype, D: int, F: int, E: int, K: int, gated: bool, format: str = ""
    ) -> "Key":
        """`format` as `kernels.triton.kind` says, or "" where nothing is quantized."""
        return Key(device, capability, str(dtype).removeprefix("torch."), D, F, E, K, gated, triton.__version__, format)

    def serves(self, other: "Key") -> bool:
        """Whether what was tuned for this one is right for `other` too, if not the fastest."""
        same = ("capability", "dtype", "D", "F", "gated", "format")
        return bool(self.capability) and all(getattr(self, name) == getattr(other, name) for name in same)

    def distance(self, other: "Key") -> tuple[object, ...]:
        """By which of two that serve the nearer one is found; no two entries are equally far."""
        apart = abs(math.log2(self.E / other.E)) + abs(math.log2(self.K / other.K))
        return self.device != other.device, apart, self.triton != other.triton, str(self)


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
QUANTIZED = {"fp8": _FP8, "nvfp4": _NVFP4, "mxfp8": _NVFP4, "mxfp4": _NVFP4}
# where products take block scales: rows that fill an instruction of 128, scales that lie in the tensor memory
_BLOCK_SCALED = _same(128, Tile(128, 128, 8, 3), dh=Tile(64, 128, 8, 3), dw=Tile(128, 128, 8, 3))
QUANTIZED |= {f"{format} native": _BLOCK_SCALED for format in ("nvfp4", "mxfp8", "mxfp4")}

LONG = 1024  # an inner dimension from which on a larger tile pays for its registers


def hopper(D: int, F: int, gated: bool) -> Configuration | None:
    """The default in bf16 for compute capability 9.x; None where its tiles do not divide the widths.

    By the assembler: up holds 128 registers at 64 columns, so that two programs fit a processor, and 255 at 128, which pays
    where D is long; down and dX fit twice at 128 columns; dH's epilogue, in halves, fits twice at 64; dW wants five stages for
    three buffers, because it loads where a row lies before the row."""
    G = 2 * F if gated else F
    if D % 128 or F % 128:
        return None
    return Configuration(
        rows=128,
        up=Tile(128 if D >= LONG else 64, 64, 8, 3),
        down=Tile(256 if F >= LONG and D % 256 == 0 else 128, 64, 8, 3),
        dh=Tile(64, 64, 8, 4),
        dx=Tile(256 if G >= LONG and D % 256 == 0 else 128, 64, 8, 3),
        dw_rows=128,
        dw_up=_dw(D, G),
        dw_down=_dw(D, D),
    )


def _dw(D: int, outputs: int) -> Tile:
    return Tile(256, 64, 8, 5) if D >= LONG and outputs % 256 == 0 else Tile(128, 64, 4, 5)


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
    """What was tuned for exactly this."""
    return read(path).get(key)


def choose(key: Key, dtype: torch.dtype) -> tuple[Configuration, str]:
    """The configuration that a shape runs with, and where it comes from, in words."""
    if tuned := find(key):
        return tuned, "tuned"
    if near := sorted((other for other in read(TABLE) if other.serves(key)), key=key.distance):
        other = near[0]
        of = f"{other.E} experts, top-{other.K}, on {other.device} under triton {other.triton}"
        return read(TABLE)[other], f"tuned for {of}"
    if key.capability.startswith("sm_9") and not key.format and dtype == torch.bfloat16:
        if default := hopper(key.D, key.F, key.gated):
            return default, f"the default of {key.capability}, untuned (make tune)"
    return safe(dtype, key.format), "safe, untuned on this device" + ("" if key.format else " (make tune)")


def configuration(key: Key, dtype: torch.dtype) -> Configuration:
    """As `choose`; says once a process which shapes run with the safe one on a GPU."""
    found, source = choose(key, dtype)
    if source.startswith("safe") and key.device:
        _warn(key)
    return found


def describe(key: Key) -> str:
    """What the starting plan says: which tiles run, and where they come from."""
    c, source = choose(key, getattr(torch, key.dtype))
    tiles = f"{c.rows} rows; columns {c.up.columns} up, {c.down.columns} down, {c.dh.columns} dH, {c.dx.columns} dX"
    return f"{source}: {tiles}"


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
