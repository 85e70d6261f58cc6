"""What `make bench` prints, from numbers alone: while it measures, and of its JSON files again."""

from collections.abc import Iterator
from typing import Any

HEADER = (
    f"{'':<24}{'ms':>8}{'ms':>9}{'TFLOP/s':>9}{'TFLOP/s':>9}{'of peak':>9}{'of peak':>9}{'x ours':>8}{'x ours':>8}"
    f"{'saved':>10}{'error y':>9}{'gradients':>11}  same bits\n"
    f"{'':<24}{'forward':>8}{'backward':>9}{'forward':>9}{'backward':>9}{'forward':>9}{'backward':>9}{'forward':>8}{'back':>8}"
    f"{'MiB':>10}"
)


def kernels_head(hardware: dict[str, Any], number: str, rounds: int) -> str:
    """`hardware` as in a record; `number`: what ours multiplies, `bfloat16` or `float32`."""
    peak = f"matmul peak {hardware['matmul_peak_flops'] / 1e12:,.2f} TFLOP/s"
    return f"{hardware['model']}, {hardware['isa']}, {number}, {peak}, medians of {rounds} rounds in turns\n{HEADER}"


def shape_line(shape: dict[str, Any], lean_bytes: float) -> str:
    said = "{T} x {D}, {E} x {F}, top-{K}, {activation}".format(**shape)
    return f"T x D, E x F: {said}; the formula keeps {lean_bytes / 2**20:,.1f} MiB in bf16"


def kernel_line(row: dict[str, Any]) -> str:
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


def steps_lines(hardware: dict[str, Any], execution: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """`execution` of bf16: native or emulated. The first of `rows` is the lane whose speed-up over each is said."""
    peak = f"matmul peak {hardware['matmul_peak_flops'] / 1e9:,.0f} GFLOP/s"
    yield f"{hardware['model']}, {hardware['isa']}, {hardware['threads']} threads, bf16 {execution}, {peak}"
    speed_up = f"speed-up of {rows[0]['name']}"
    yield f"{'':<22}{'ms/step':>9}{'tokens/s':>11}{'MFU':>6}{speed_up:>38}   spread (quartiles, ms)"
    for row in rows:
        low, high = (1e3 * q for q in row["quartiles_s"])
        yield (f"{row['name']:<22}{1e3 * row['step_s']:>9,.0f}{row['tokens_per_second']:>11,.0f}{row['mfu']:>6.0%}"
               f"{row['ratio']:>37.2f}x   {low:,.0f} to {high:,.0f}")  # fmt: skip


def stored(found: dict[str, Any]) -> str:
    """kernels.json or steps.json as it was printed when it was made."""
    if found["part"] == "steps":
        execution = "emulated" if found["hardware"]["arithmetic"] == "emulated" else "native"
        return "\n".join(steps_lines(found["hardware"], execution, found["rows"]))
    lines = [kernels_head(found["hardware"], "float32" if found["precision"] == "full" else "bfloat16", found["rounds"])]
    for table in found["tables"]:
        lines += [shape_line(table["shape"], table["lean_bytes"]), *map(kernel_line, table["rows"])]
    return "\n".join(lines)
