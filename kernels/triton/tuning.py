"""Finds tile sizes for one shape: every kernel is timed with a few configurations, and the fastest that is right is kept.

Up, down, dH and dX share the rows of a tile, because they share the routing metadata: each is timed at every number of rows,
and the rows with the smallest sum win. What is timed here once is committed as a table; a run only looks it up. All that a
shape tries is compiled first, side by side.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from triton.runtime.errors import TritonError

from kernels.activation import ACTIVATIONS
from kernels.stages import HEAD_START
from kernels.triton import expert_mlp
from kernels.triton.compiling import compiling
from kernels.triton.configuration import Configuration, Tile
from kernels.triton.metadata import order, routes
from kernels.triton.operands import Operand, Quantizer

TOLERANCE = 1e-2  # of bf16 results that differ in the order of their sums only
CALLS = 10  # between two looks at the GPU's clock
BY_ROW, GRADIENTS = ("up", "down", "dh", "dx"), ("dw_up", "dw_down")


@dataclass(frozen=True)
class Space:
    """What is tried of each kernel, beside the configuration that it starts from: Hopper's default and its neighbours, without
    those that the assembler says spill, or make wgmma wait for each other (`make bench SET=resources`)."""

    rows: tuple[int, ...] = (128,)
    up: tuple[Tile, ...] = (Tile(64, 64, 8, 3), Tile(64, 64, 8, 4), Tile(128, 64, 8, 3))
    down: tuple[Tile, ...] = (Tile(64, 64, 8, 3), Tile(128, 64, 8, 3), Tile(128, 64, 8, 4), Tile(256, 64, 8, 3))
    dh: tuple[Tile, ...] = (Tile(32, 64, 8, 3), Tile(64, 64, 8, 3), Tile(64, 64, 8, 4), Tile(128, 64, 8, 3))
    dx: tuple[Tile, ...] = (Tile(64, 64, 8, 3), Tile(128, 64, 8, 3), Tile(128, 64, 8, 4), Tile(256, 64, 8, 3))
    dw_up: tuple[Tile, ...] = (Tile(64, 64, 4, 5), Tile(128, 64, 4, 3), Tile(128, 64, 4, 5), Tile(256, 64, 8, 5))
    dw_down: tuple[Tile, ...] = (Tile(64, 64, 4, 5), Tile(128, 64, 4, 3), Tile(128, 64, 4, 5), Tile(256, 64, 8, 5))
    combines: tuple[tuple[int, int], ...] = ((4, 128), (8, 128), (16, 128), (4, 256), (8, 256))
    repeats: int = 10


@dataclass
class Problem:
    """Inputs of one shape, as `kernels.moe_mlp` takes them, operands already and contiguous; routing weights fp32."""

    x_TD: Tensor
    w_up_EDG: Tensor
    w_down_EFD: Tensor
    expert_TK: Tensor
    weight_TK: Tensor
    dy_TD: Tensor
    activation: str

    def prepare(self, c: Configuration) -> None:
        """Everything that the kernels read, for tiles of `c.rows` rows."""
        self.act, self.make = ACTIVATIONS[self.activation], Quantizer(None, self.x_TD.dtype)
        self.where = routes(order(self.expert_TK, self.w_up_EDG.shape[0]), c.rows)
        self.h_RG, self.a = self.ups(c)
        self.dh = Operand(self.call("dh", c))
        self.y_RD = self.call("down", c)

    def ups(self, c: Configuration) -> tuple[Tensor, Operand]:
        return expert_mlp.up(self.make, Operand(self.x_TD), self.weights("up", 1), self.weight_TK, self.where, self.act, c)

    def weights(self, of: str, inner: int) -> Operand:
        return self.make.weights(self.w_up_EDG if of == "up" else self.w_down_EFD, f"weight_{of}", inner)

    def call(self, kernel: str, c: Configuration) -> Tensor:
        """The output of one kernel."""
        make, dy, where = self.make, Operand(self.dy_TD), self.where
        if kernel == "up":
            return self.ups(c)[1].values
        if kernel == "down":
            return expert_mlp.rows(make, self.a, self.weights("down", 1), where, c.rows, c.down)
        if kernel == "dh":
            return expert_mlp.dh(make, dy, self.weights("down", 2), self.h_RG, self.weight_TK, where, self.act, c)[0]
        if kernel == "dx":
            return expert_mlp.rows(make, self.dh, self.weights("up", 2), where, c.rows, c.dx)
        if kernel == "combine":
            return expert_mlp.combine(self.y_RD, where, c)
        up, top_k = kernel == "dw_up", self.expert_TK.shape[1]
        sides = (Operand(self.x_TD), self.dh) if up else (self.a, dy)
        return expert_mlp.weight_gradient(*sides, where.row_R, where.start_E1, top_k, up, c.dw_rows, getattr(c, kernel))


def tune(
    problem: Problem, start: Configuration, space: Space, say: Callable[[str], None]
) -> tuple[Configuration, dict[str, float]]:
    """The best configuration among `start` and the space's, and the milliseconds of each of its kernels."""
    begun = time.perf_counter()
    with compiling():
        for c in _everything(start, space):
            problem.prepare(c)
            for kernel in (*BY_ROW, *GRADIENTS, "combine"):
                problem.call(kernel, c)
    say(f"  compiled in {time.perf_counter() - begun:.0f} s")
    results = []
    for rows in sorted({*space.rows, start.rows}):
        c = replace(start, rows=rows)
        problem.prepare(c)
        results.append(_fastest_tiles(problem, c, BY_ROW, space, f"{rows} rows", say))
    _, c, milliseconds = min(results, key=lambda result: result[0])
    problem.prepare(c)
    results = [
        _fastest_tiles(problem, replace(c, dw_rows=rows), GRADIENTS, space, f"{rows} rows", say)
        for rows in sorted({*space.rows, start.dw_rows})
    ]
    _, c, of_gradients = min(results, key=lambda result: result[0])
    timed = []
    for tokens, columns in space.combines:
        tried = replace(c, combine_tokens=tokens, combine_columns=columns)
        timed.append((_milliseconds(partial(problem.call, "combine", tried), space.repeats), tokens, columns))
    ms, tokens, columns = min(timed)
    say(f"  combine   {tokens} tokens, {columns} columns: {ms:.3f} ms")
    return replace(c, combine_tokens=tokens, combine_columns=columns), milliseconds | of_gradients | {"combine": ms}


def _everything(start: Configuration, space: Space) -> Iterator[Configuration]:
    """Configurations that hold every kernel that will be tried."""
    kernels = (*BY_ROW, *GRADIENTS)
    for rows in sorted({*space.rows, start.rows, start.dw_rows}):
        of_rows = replace(start, rows=rows, dw_rows=rows)
        yield of_rows
        for n in range(max(len(getattr(space, kernel)) for kernel in kernels)):
            tiles = {kernel: tried[n] for kernel in kernels if n < len(tried := getattr(space, kernel))}
            yield replace(of_rows, **tiles)
    yield from (replace(start, combine_tokens=tokens, combine_columns=columns) for tokens, columns in space.combines)


def _fastest_tiles(
    problem: Problem, c: Configuration, kernels: tuple[str, ...], space: Space, label: str, say: Callable[[str], None]
) -> tuple[float, Configuration, dict[str, float]]:
    """(sum of milliseconds, `c` with the fastest tile of each kernel, milliseconds of each)."""
    milliseconds = {}
    for kernel in kernels:
        tile, milliseconds[kernel] = _fastest(problem, c, kernel, space, say)
        c = replace(c, **{kernel: tile})
        words = f"{tile.columns} columns, {tile.inner} inner, {tile.warps} warps, {tile.stages} stages"
        say(f"  {kernel:<8}  {label:<9} {words}: {milliseconds[kernel]:.3f} ms")
    return sum(milliseconds.values()), c, milliseconds


def _fastest(problem: Problem, c: Configuration, kernel: str, space: Space, say: Callable[[str], None]) -> tuple[Tile, float]:
    """The fastest of the tile in `c` and the space's; one that does not compile or run here, or computes something else, is
    named and left out."""
    expected = problem.call(kernel, c).float()
    best = (getattr(c, kernel), _milliseconds(partial(problem.call, kernel, c), space.repeats))
    for tile in getattr(space, kernel):
        tried = replace(c, **{kernel: tile})
        try:
            error = float((problem.call(kernel, tried).float() - expected).norm() / expected.norm())
        except (TritonError, RuntimeError) as failed:
            said = str(failed).strip() or type(failed).__name__
            say(f"  {kernel:<8}  {tile}: left out: {said.splitlines()[0][:100]}")
            continue
        if not error <= TOLERANCE:  # NaN is above nothing
            say(f"  {kernel:<8}  {tile}: left out: it is {error:.1e} off what the first tile computes")
            continue
        ms = _milliseconds(partial(problem.call, kernel, tried), space.repeats)
        if ms < best[1]:
            best = (tile, ms)
    return best


def _milliseconds(work: Callable[[], Tensor], repeats: int) -> float:
    """A call's, the median over `repeats`; the first call, which compiles, was made before. On a GPU each repeat is of several
    calls, launched while the device waits."""
    seen = []
    for _ in range(repeats):
        if torch.cuda.is_available():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(HEAD_START)
            start.record()
            for _ in range(CALLS):
                work()
            end.record()
            torch.cuda.synchronize()
            seen.append(start.elapsed_time(end) / CALLS)
        else:
            begun = time.perf_counter()
            work()
            seen.append(1e3 * (time.perf_counter() - begun))
    return sorted(seen)[len(seen) // 2]
