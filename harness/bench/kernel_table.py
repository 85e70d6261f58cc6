"""The table of expert kernels: every contestant at every shape, as rows of numbers and as text."""

from collections.abc import Callable
from typing import Any

from harness.bench.contestants import Contestant, contestants, in_formats
from harness.bench.measure import measure
from harness.bench.shapes import FORMAT_SHAPES, SETS, SWEEPS, Shape
from harness.bench.text import kernel_line, kernels_head, shape_line
from harness.train.machine import Machine
from kernels import Arithmetic, Precision


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
    say(kernels_head(here.as_record(), number, rounds))
    tables = []
    for shape in shapes:
        rows = measure(shape, everyone(shape), dtype, here.device, rounds, peak)
        said = vars(shape) | {"activation": shape.activation}
        say(shape_line(said, shape.lean_bytes))
        for row in rows:
            say(kernel_line(row))
        tables.append({"shape": said, "lean_bytes": shape.lean_bytes, "rows": rows})
    for name, why in missing.items():
        say(f"not timed: {name} ({why})")
    return {"precision": arithmetic.name, "rounds": rounds, "peak_flops": peak, "missing": missing, "tables": tables}
