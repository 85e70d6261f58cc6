"""What an expert MLP must cost at least, kernel by kernel: FLOPs against the peak of products, bytes against bandwidth.

Letters as in `harness.bench.shapes`, R = T*K. Bytes are those of bf16 operands, each array read or written once (a gather
counts its source once: the cache is granted), weight gradients and y in fp32. Derived, not measured: what `make bench` finds is
to be held against it.
"""

from collections.abc import Callable
from typing import Any

from harness.bench.shapes import FORMAT_SHAPES, SETS, Shape
from harness.bench.table import Table
from harness.train.machine import Machine
from harness.train.named_gpus import GPUS

H100 = GPUS["h100-80"]
FP8_SPEEDUP = 2  # of products by an H100's data sheet (1,979e12)


def work(shape: Shape, operand: int = 2) -> dict[str, tuple[int, int]]:
    """(FLOPs, bytes) of each stage; `operand`: bytes of one."""
    tokens, rows = shape.T, shape.T * shape.K
    x, y32, wide = operand * tokens * shape.D, 4 * tokens * shape.D, operand * rows * shape.D
    h, a = operand * rows * shape.G, operand * rows * shape.F
    up, down = operand * shape.E * shape.D * shape.G, operand * shape.E * shape.F * shape.D
    flops_up, flops_down = 2 * rows * shape.D * shape.G, 2 * rows * shape.F * shape.D
    return {
        "up": (flops_up, x + up + h + a),
        "down": (flops_down, a + down + wide),
        "combine": (rows * shape.D, wide + y32),
        "dH": (flops_down, x + down + 2 * h + a),
        "dW": (flops_up + flops_down, 2 * x + h + a + (up + down) * 4 // operand),
        "dX": (flops_up, h + up + wide),
        "combine dX": (rows * shape.D, wide + y32),
    }


def work_fp8(shape: Shape) -> dict[str, tuple[float, int]]:
    """As `work`, of the fp8 kernels: FLOPs in those of bf16 that take as long. Codes are 1 byte; scales, 1 to 3% of them, are
    left out. Weights are quantized from 2 bytes an element, in the forward and in the backward."""
    plain, tokens, rows = work(shape), shape.T, shape.T * shape.K
    x, wide, h, a = tokens * shape.D, 2 * rows * shape.D, 2 * rows * shape.G, rows * shape.F
    up, down = shape.E * shape.D * shape.G, shape.E * shape.F * shape.D
    flops_up, flops_down = (plain[name][0] / FP8_SPEEDUP for name in ("up", "down"))
    return {
        "quantize": (0, 3 * (x + up + down)),
        "up": (flops_up, x + up + h + a),
        "down": (flops_down, a + down + wide),
        "combine": plain["combine"],
        "quantize dY, w, dh": (0, 3 * (x + up + down) + 3 * h // 2),
        "dH": (flops_down, x + down + 2 * h + 2 * a),
        "dW": plain["dW"],
        "dX": (flops_up, h // 2 + up + wide),
        "combine dX": plain["combine dX"],
    }


FORWARD = ("quantize", "up", "down", "combine")


def floor(here: Machine, which: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds no implementation of these stages can go below; for set=gpu without a GPU, those of an H100's data sheet."""
    where, peak, bandwidth = f"{here.model}, measured", here.matmul_peak_flops, here.memory_bytes_per_s
    if which == "gpu" and here.device != "cuda":
        where, peak, bandwidth = f"{H100.title} as its data sheet states it", H100.peak, H100.bandwidth
    say(f"floors on {where}: {peak / 1e12:,.2f} TFLOP/s, {bandwidth / 1e9:,.0f} GB/s; ms, b where bytes bind, f where FLOPs do")
    found = {"tables": _table("bf16", work, SETS[which], peak, bandwidth, say)}
    if which == "gpu":
        found["fp8"] = _table("fp8 (of bf16's peak)", work_fp8, FORMAT_SHAPES[which], peak, bandwidth, say)
    return {"where": where, "peak_flops": peak, "bandwidth": bandwidth} | found


def _table(
    title: str, work_of: Callable[[Shape], dict[str, tuple[float, int]]], shapes: tuple[Shape, ...], peak: float,
    bandwidth: float, say: Callable[[str], None],
) -> list[dict[str, Any]]:  # fmt: skip
    names = list(work_of(shapes[0]))
    ends = (10, ",.3f", "forward"), (9, ".0%", "of peak"), (10, ",.3f", "backward"), (9, ".0%", "of peak")
    text = Table(46, (*((max(12, len(name) + 2), "", name) for name in names), *ends))
    say(text.head(title))
    tables = []
    for shape in shapes:
        found = {name: (flops / peak, size / bandwidth) for name, (flops, size) in work_of(shape).items()}
        ways = {way: sum(max(times) for name, times in found.items() if (name in FORWARD) == (way == "forward"))
                for way in ("forward", "backward")}  # fmt: skip
        shares = (shape.forward_flops / peak / ways["forward"], 2 * shape.forward_flops / peak / ways["backward"])
        cells = [f"{1e3 * max(times):,.3f}{'f' if times[0] >= times[1] else 'b'}" for times in found.values()]
        totals = [total for way, share in zip(ways, shares) for total in (1e3 * ways[way], share)]
        say(text.row(str(shape), *cells, *totals))
        tables.append({"shape": vars(shape), "seconds": found, "total_s": ways})
    return tables
