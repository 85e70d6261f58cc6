"""Compiles the Triton kernels below bf16 for a GPU that is not here and prints, as one JSON object, what the assembler made
of them: the launches of a forward and backward in each format's recipe, and with a dial turned that makes kernels of its own,
are recorded, and one of each kind is compiled.

Its own process: the interpreter must be off. Shapes are those of the lane moe-64e, SwiGLU, in bf16. usage: [architecture ...]
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402
from triton_ahead import EXPERT_WIDTH, TOP_K, WIDTH, compiled  # noqa: E402
from triton_quantized_cases import DIALLED, KERNELS  # noqa: E402

from kernels import Arithmetic  # noqa: E402
from kernels.activation import ACTIVATIONS  # noqa: E402
from kernels.precision import Precision, Quantization  # noqa: E402
from kernels.triton import quantized  # noqa: E402

TYPES = {
    torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.float8_e4m3fn: "*fp8e4nv", torch.int64: "*i64",
}  # fmt: skip
KINDS = ("SURVEY", "STOCHASTIC", "NAMED", "WIDE", "inner_stride", "outer_stride")  # values that make another kernel of one


def launches(name: str) -> dict[str, dict[str, tuple]]:
    """{kernel: {kind: arguments of `compiled`}}. Nothing runs: what the launches would write is never read."""
    found: dict[str, dict[str, tuple]] = {}

    def record(kernel, *values, grid, warmup, **named):
        named = dict(zip(kernel.arg_names, values)) | named
        fixed = {p.name: named[p.name] for p in kernel.params if p.is_constexpr or _is_one(named[p.name])}
        types = {k: _type(v) for k, v in named.items() if k in kernel.arg_names and k not in fixed}
        launch = {k: v for k, v in named.items() if k not in kernel.arg_names}
        kind = str({k: v for k, v in fixed.items() if k in KINDS})
        found.setdefault(kernel.__name__, {}).setdefault(kind, (kernel, types, fixed, launch))

    kernel_run, JITFunction.run = JITFunction.run, record
    try:
        dials = replace(Quantization.recipe(name.split()[0]), **DIALLED[name])
        precision, act = Precision(Arithmetic.of("native"), dials), ACTIVATIONS["swiglu"]
        x_TD, weight_TK = torch.zeros(64, WIDTH, dtype=torch.bfloat16), torch.zeros(64, TOP_K)
        w_up, w_down = torch.zeros(4, WIDTH, 2 * EXPERT_WIDTH), torch.zeros(4, EXPERT_WIDTH, WIDTH)
        expert_TK, key_4 = torch.zeros(64, TOP_K, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
        words = (x_TD, w_up, w_down, expert_TK, weight_TK, act, precision, key_4)
        _, h_RG = quantized.forward(*words)
        quantized.backward(x_TD, *words, h_RG)
    finally:
        JITFunction.run = kernel_run
    return found


def _is_one(value: object) -> bool:
    """What a launch makes a constant of."""
    return isinstance(value, int) and value == 1


def _type(value: object) -> str:
    return TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"


if __name__ == "__main__":
    found = {}
    for format, kernels in KERNELS.items():
        recorded = launches(format)
        for target in [int(word) for word in sys.argv[1:]] or [90]:
            for name in kernels:
                kinds = {kind: compiled(*words, target) for kind, words in recorded[name].items()}
                found[f"{format} {name}, sm_{target}"] = kinds
    print(json.dumps(found))
