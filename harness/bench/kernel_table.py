"""The table of expert kernels: every contestant at every shape, as rows of numbers and as text."""

from collections.abc import Callable
from typing import Any

from harness.bench.contestants import Contestant, contestants, in_formats
from harness.bench.measure import measure
from harness.bench.shapes import FORMAT_SHAPES, SETS, SWEEPS, Shape
from harness.bench.table import Table
from harness.train.machine import Machine
from kernels import Arithmetic

TABLE = Table(24, (
    (8, ",.2f", "ms", "forward"), (9, ",.2f", "ms", "backward"), (9, ".3g", "TFLOP/s", "forward"),
    (9, ".3g", "TFLOP/s", "backward"), (9, ".0%", "of peak", "forward"), (9, ".0%", "of peak", "backward"),
    (8, ".2f", "x ours", "forward"), (8, ".2f", "x ours", "back"), (10, ",.1f", "saved", "MiB"), (9, ".1e", "error y"),
    (11, ".1e", "gradients"), (0, "", "  same bits"),
))  # fmt: skip
FIGURES = ("ms", "tflops", "share", "ratio")


def precision_of(here: Machine) -> str:
    """What ours multiplies in: bf16 where it is native; fp32 where bf16 would be emulated, for everyone alike."""
    return "full" if Arithmetic.of(here.arithmetic).rounds else here.arithmetic


def kernel_table(here: Machine, backend: str, which: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything measured at the shapes of set `which`; `say` gets the text as it comes."""
    return _among_peers(SETS[which], here, backend, rounds, say)


def sweep(here: Machine, backend: str, which: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The same rows spread over 8 to 4,096 experts."""
    return _among_peers(SWEEPS[which], here, backend, rounds, say)


def formats(here: Machine, backend: str, which: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Ours below bf16 beside ours in bf16; "x ours" is a format's time over bf16's, errors are against fp32."""
    return _table(FORMAT_SHAPES[which], lambda shape: in_formats(backend, precision_of(here), shape), {}, here, rounds, say)


def _among_peers(
    shapes: tuple[Shape, ...], here: Machine, backend: str, rounds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    everyone, missing = contestants(backend, precision_of(here), here.device)
    return _table(shapes, lambda shape: everyone, missing, here, rounds, say)


def _table(
    shapes: tuple[Shape, ...], everyone: Callable[[Shape], list[Contestant]], missing: dict[str, str], here: Machine,
    rounds: int, say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    precision = precision_of(here)
    dtype, peak = Arithmetic.of(precision).dtype, here.matmul_peak_flops
    number = str(dtype).removeprefix("torch.")
    say(f"{here.model}, {here.isa}, {number}, matmul peak {peak / 1e12:,.2f} TFLOP/s, medians of {rounds} rounds in turns")
    say(TABLE.head())
    tables = []
    for shape in shapes:
        rows = measure(shape, everyone(shape), dtype, here.device, rounds, peak)
        say(f"T x D, E x F: {shape}; the formula keeps {shape.lean_bytes / 2**20:,.1f} MiB in bf16")
        for row in rows:
            say(line(row))
        tables.append({"shape": vars(shape) | {"activation": shape.activation}, "lean_bytes": shape.lean_bytes, "rows": rows})
    for name, why in missing.items():
        say(f"not timed: {name} ({why})")
    return {"precision": precision, "rounds": rounds, "peak_flops": peak, "missing": missing, "tables": tables}


def line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"  {row['name']:<22}failed: {row['failed']}"
    cells = [row.get(f"{way}_{figure}") for figure in FIGURES for way in ("forward", "backward")]
    if not row["is_bound"]:
        worst = max(error for name, error in row["errors"].items() if name != "y")
        same = "yes" if row["bit_equal"] else "NO"
        cells += [row["saved_bytes"] / 2**20, row["errors"]["y"], worst, f"  {same}"]
    return TABLE.row(f"  {row['name']}", *cells)
