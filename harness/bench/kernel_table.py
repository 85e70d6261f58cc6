"""The table of expert kernels: every contestant at every shape, as rows of numbers and as text."""

from collections.abc import Callable
from typing import Any

from harness.bench.contestants import Contestant, contestants, in_formats
from harness.bench.measure import measure
from harness.bench.shapes import FORMAT_SHAPES, SETS, SWEEPS, Shape
from harness.train.machine import Machine
from kernels import Arithmetic, Precision

HEADER = (
    f"{'':<24}{'ms':>8}{'ms':>9}{'TFLOP/s':>9}{'TFLOP/s':>9}{'of peak':>9}{'of peak':>9}{'x ours':>8}{'x ours':>8}"
    f"{'saved':>10}{'error y':>9}{'gradients':>11}  same bits\n"
    f"{'':<24}{'forward':>8}{'backward':>9}{'forward':>9}{'backward':>9}{'forward':>9}{'backward':>9}{'forward':>8}{'back':>8}"
    f"{'MiB':>10}"
)


def arithmetic_of(here: Machine) -> Arithmetic:
    """What ours multiplies in: bf16 where it is native; fp32 where bf16 would be emulated, for everyone alike."""
    return Arithmetic.of("full" if Arithmetic.of(here.arithmetic).rounds else here.arithmetic)


def kernel_table(here: Machine, backend: str, which: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything measured at the shapes of set `which`; `say` gets the text as it comes."""
    return _among_peers(SETS[which], here, backend, rounds, say)


def sweep(here: Machine, backend: str, which: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The same rows spread over 8 to 4,096 experts."""
    return _among_peers(SWEEPS[which], here, backend, rounds, say)


def formats(here: Machine, backend: str, which: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Ours below bf16 beside ours in bf16; "x ours" is a format's time over bf16's, errors are against fp32."""
    return _table(
        FORMAT_SHAPES[which],
        lambda shape: in_formats(backend, arithmetic_of(here), shape),
        {},
        here,
        rounds,
        say,
    )


def _among_peers(
    shapes: tuple[Shape, ...], here: Machine, backend: str, rounds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    everyone, missing = contestants(backend, Precision(arithmetic_of(here)), here.device)
    return _table(shapes, lambda shape: everyone, missing, here, rounds, say)


def _table(
    shapes: tuple[Shape, ...], everyone: Callable[[Shape], list[Contestant]], missing: dict[str, str], here: Machine,
    rounds: int, say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    arithmetic = arithmetic_of(here)
    dtype, peak = arithmetic.dtype, here.matmul_peak_flops
    number = str(dtype).removeprefix("torch.")
    say(f"{here.model}, {here.isa}, {number}, matmul peak {peak / 1e12:,.2f} TFLOP/s, medians of {rounds} rounds in turns")
    say(HEADER)
    tables = []
    for shape in shapes:
        rows = measure(shape, everyone(shape), dtype, here.device, rounds, peak)
        say(f"T x D, E x F: {shape}; the formula keeps {shape.lean_bytes / 2**20:,.1f} MiB in bf16")
        for row in rows:
            say(line(row))
        tables.append({"shape": vars(shape) | {"activation": shape.activation}, "lean_bytes": shape.lean_bytes, "rows": rows})
    for name, why in missing.items():
        say(f"not timed: {name} ({why})")
    return {"precision": arithmetic.name, "rounds": rounds, "peak_flops": peak, "missing": missing, "tables": tables}


def line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"  {row['name']:<22}failed: {row['failed']}"
    cells = (
        f"{row['forward_ms']:>8,.2f}{row['backward_ms']:>9,.2f}{row['forward_tflops']:>9,.3g}{row['backward_tflops']:>9,.3g}"
    )
    cells += f"{row['forward_share']:>9.0%}{row['backward_share']:>9.0%}"
    cells += f"{row['forward_ratio']:>8.2f}{row['backward_ratio']:>8.2f}" if "forward_ratio" in row else f"{'':>16}"
    if row["is_bound"]:
        return f"  {row['name']:<22}{cells}"
    worst = max(error for name, error in row["errors"].items() if name != "y")
    same = "yes" if row["bit_equal"] else "NO"
    return f"  {row['name']:<22}{cells}{row['saved_bytes'] / 2**20:>10,.1f}{row['errors']['y']:>9.1e}{worst:>11.1e}  {same}"
