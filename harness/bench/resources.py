"""What the kernels take of a GPU by the assembler's account, for GPUs that are not here: registers, shared memory, spills.

At each shape with the tiles that an untuned GPU of that capability would run. How fast they are it does not say.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from harness.bench.shapes import SETS, Shape
from harness.bench.table import Table
from harness.errors import UserError

TARGETS = (90,)
TABLE = Table(16, ((9, "", "columns"), (7, "", "inner"), (7, "", "warps"), (8, "", "stages"), (11, "", "registers"),
                   (8, "", "shared", "KiB"), (8, "", "spilled", "bytes"), (11, "", "serialized", "wgmma"),
                   (11, "", "programs", "per SM")))  # fmt: skip


def resources(which: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Raises: UserError in Triton's interpreter, which has no assembler."""
    if os.environ.get("TRITON_INTERPRET"):
        raise UserError("the interpreter compiles nothing", "unset TRITON_INTERPRET")
    from kernels.triton.ahead import compiled, in_bf16, programs
    from kernels.triton.configuration import Key, choose

    tables, seen = [], set()
    for target in TARGETS:
        say(TABLE.head(f"sm_{target}, bf16"))
        for shape in SETS[which]:
            if (target, shape.D, shape.F, shape.activation) in seen:
                continue
            seen.add((target, shape.D, shape.F, shape.activation))
            gated = shape.G > shape.F
            key = Key.of("", f"sm_{target}", torch.bfloat16, shape.D, shape.F, shape.E, shape.K, gated)
            config, source = choose(key, torch.bfloat16)
            say(f"D {shape.D}, F {shape.F}, {shape.activation}: {source}")
            words = in_bf16(shape.activation, shape.D, shape.F, shape.K, config)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = dict(zip(words, pool.map(lambda it, to=target: compiled(*it, to), words.values())))
            for name, kernel in found.items():
                tile = vars(getattr(config, name)).values() if name != "combine" else (config.combine_columns, None, None, None)
                kernel["programs"] = programs(kernel, target)
                say(TABLE.row(f"  {name}", *(None if it is None else str(it) for it in tile), str(kernel["registers"]),
                              f"{kernel['shared bytes'] / 1024:.0f}", str(kernel["spill bytes"]),
                              str(kernel["wgmma serialized"]), str(kernel["programs"])))  # fmt: skip
            tables.append({"target": target, "shape": _stated(shape), "source": source, "kernels": found})
    return {"tables": tables, "block scaled": _block_scaled(SETS[which][0], say)}


def _block_scaled(shape: Shape, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The kernels that take block scales, at one shape, with the tiles that a GPU of capability 10.0 would run."""
    from kernels import Precision, Quantization
    from kernels.precision import Arithmetic
    from kernels.triton.ahead import compiled, launches, programs
    from kernels.triton.blockscaled import FORMATS
    from kernels.triton.configuration import QUANTIZED

    found = []
    say(TABLE.head("sm_100, block scales"))
    for format in FORMATS:
        precision = Precision(Arithmetic.of("native"), Quantization.recipe(format))
        config = QUANTIZED[f"{format} native"]
        recorded = launches(precision, shape.activation, shape.D, shape.F, shape.K, config, native=True)
        (kind,) = compiled(*next(iter(recorded["up_kernel"].values())), 100)["block scaled"]
        say(f"D {shape.D}, F {shape.F}, {shape.activation}, {format}: {kind}")
        kernels = {"up": "up_kernel", "down": "rows_kernel", "dh": "dh_kernel", "dw_up": "weight_gradient_kernel"}
        for name, of in kernels.items():
            kernel = compiled(*next(iter(recorded[of].values())), 100)
            kernel["programs"] = programs(kernel, 100)
            tile = (str(it) for it in vars(getattr(config, name)).values())
            sizes = (str(kernel["registers"]), f"{kernel['shared bytes'] / 1024:.0f}", str(kernel["spill bytes"]))
            say(TABLE.row(f"  {name}", *tile, *sizes, None, str(kernel["programs"])))
            found.append({"format": format, "kernel": name, **kernel})
    return found


def _stated(shape: Shape) -> dict[str, Any]:
    return {"D": shape.D, "F": shape.F, "activation": shape.activation}
