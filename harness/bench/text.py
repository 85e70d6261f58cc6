"""What `make bench` prints, from numbers alone: while it measures, and of its JSON files again."""

from collections.abc import Iterator
from typing import Any

from harness.bench.table import Table

KERNELS = Table(24, (
    (8, ",.2f", "ms", "forward"), (9, ",.2f", "ms", "backward"), (9, ".3g", "TFLOP/s", "forward"),
    (9, ".3g", "TFLOP/s", "backward"), (9, ".0%", "of peak", "forward"), (9, ".0%", "of peak", "backward"),
    (8, ".2f", "x ours", "forward"), (8, ".2f", "x ours", "back"), (10, ",.1f", "saved", "MiB"), (9, ".1e", "error y"),
    (11, ".1e", "gradients"), (0, "", "  same bits"),
))  # fmt: skip
SPREAD = "   spread (quartiles, ms)"
FIGURES = ("ms", "tflops", "share", "ratio")


def kernels_head(hardware: dict[str, Any], number: str, rounds: int) -> str:
    """`hardware` as in a record; `number`: what ours multiplies, `bfloat16` or `float32`."""
    peak = f"matmul peak {hardware['matmul_peak_flops'] / 1e12:,.2f} TFLOP/s"
    return f"{hardware['model']}, {hardware['isa']}, {number}, {peak}, medians of {rounds} rounds in turns\n{KERNELS.head()}"


def shape_line(shape: dict[str, Any], lean_bytes: float) -> str:
    said = "{T} x {D}, {E} x {F}, top-{K}, {activation}".format(**shape)
    return f"T x D, E x F: {said}; the formula keeps {lean_bytes / 2**20:,.1f} MiB in bf16"


def kernel_line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"  {row['name']:<22}failed: {row['failed']}"
    cells = [row.get(f"{way}_{figure}") for figure in FIGURES for way in ("forward", "backward")]
    if not row["is_bound"]:
        worst = max(error for name, error in row["errors"].items() if name != "y")
        cells += [row["saved_bytes"] / 2**20, row["errors"]["y"], worst, f"  {'yes' if row['bit_equal'] else 'NO'}"]
    return KERNELS.row(f"  {row['name']}", *cells)


def steps_lines(hardware: dict[str, Any], execution: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """`execution` of bf16: native or emulated. The first of `rows` is the lane whose speed-up over each is said."""
    peak = f"matmul peak {hardware['matmul_peak_flops'] / 1e9:,.0f} GFLOP/s"
    yield f"{hardware['model']}, {hardware['isa']}, {hardware['threads']} threads, bf16 {execution}, {peak}"
    ratio = f"speed-up of {rows[0]['name']}"
    columns = ((9, ",.0f", "ms/step"), (11, ",.0f", "tokens/s"), (6, ".0%", "MFU"), (38, "", ratio), (0, "", SPREAD))
    table = Table(22, columns)
    yield table.head()
    for row in rows:
        low, high = (1e3 * q for q in row["quartiles_s"])
        cells = 1e3 * row["step_s"], row["tokens_per_second"], row["mfu"], f"{row['ratio']:.2f}x"
        yield table.row(row["name"], *cells, f"   {low:,.0f} to {high:,.0f}")


def stored(found: dict[str, Any]) -> str:
    """kernels.json or steps.json as it was printed when it was made."""
    if found["part"] == "steps":
        execution = "emulated" if found["hardware"]["arithmetic"] == "emulated" else "native"
        return "\n".join(steps_lines(found["hardware"], execution, found["rows"]))
    lines = [kernels_head(found["hardware"], "float32" if found["precision"] == "full" else "bfloat16", found["rounds"])]
    for table in found["tables"]:
        lines += [shape_line(table["shape"], table["lean_bytes"]), *map(kernel_line, table["rows"])]
    return "\n".join(lines)
