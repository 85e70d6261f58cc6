"""Compiles the Triton kernels for GPUs that are not here and prints, as one JSON object, what the assembler made of them: the
launches of a forward and backward are recorded, and one of each kind is compiled.

Its own process: the interpreter must be off. Shapes and pointer alignments are those of the lane moe-64e in bf16.
usage: [architecture ...]
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402
from triton_shapes import KERNELS, TARGETS  # noqa: E402

from kernels import Precision  # noqa: E402
from kernels.activation import ACTIVATIONS  # noqa: E402
from kernels.triton import expert_mlp  # noqa: E402

WIDTH, EXPERT_WIDTH, TOP_K = 768, 384, 6
TYPES = {
    torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.float8_e4m3fn: "*fp8e4nv", torch.int64: "*i64",
}  # fmt: skip
KINDS = ("SURVEY", "STOCHASTIC", "NAMED", "WIDE", "GATHER_LEFT")  # values that make another kernel of one,
ONES = ("inner_stride", "outer_stride", "STRIDE_I", "STRIDE_O")  # or do where they are 1


def launches(precision: Precision, activation: str) -> dict[str, dict[str, tuple]]:
    """{kernel: {kind: arguments of `compiled`}}. Nothing runs: what the launches would write is never read."""
    found: dict[str, dict[str, tuple]] = {}

    def record(kernel, *values, grid, warmup, **named):
        named = dict(zip(kernel.arg_names, values)) | named
        fixed = {p.name: named[p.name] for p in kernel.params if p.is_constexpr or _is_one(named[p.name])}
        types = {k: _type(v) for k, v in named.items() if k in kernel.arg_names and k not in fixed}
        launch = {k: v for k, v in named.items() if k not in kernel.arg_names}
        kind = str({k: v for k, v in fixed.items() if k in KINDS or (k in ONES and _is_one(v))})
        found.setdefault(kernel.__name__, {}).setdefault(kind, (kernel, types, fixed, launch))

    kernel_run, JITFunction.run = JITFunction.run, record
    try:
        act = ACTIVATIONS[activation]
        x_TD, weight_TK = torch.zeros(64, WIDTH, dtype=torch.bfloat16), torch.zeros(64, TOP_K)
        w_up, w_down = torch.zeros(4, WIDTH, act.fan * EXPERT_WIDTH), torch.zeros(4, EXPERT_WIDTH, WIDTH)
        weights = (precision.weight_operand(w) for w in (w_up, w_down))
        expert_TK, key_4 = torch.zeros(64, TOP_K, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
        tensors = (x_TD, *weights, expert_TK, weight_TK, act, precision, key_4)
        _, h_RG = expert_mlp.forward(*tensors)
        expert_mlp.backward(x_TD, *tensors, h_RG)
    finally:
        JITFunction.run = kernel_run
    return found


def _is_one(value: object) -> bool:
    """What a launch makes a constant of."""
    return type(value) is int and value == 1


def _type(value: object) -> str:
    return TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"


def sources() -> dict[str, tuple]:
    """{name: arguments of `compiled`} of the kernels in bf16."""
    found = {}
    for activation in ("swiglu", "relu2"):  # of the latter: down, dx, dw
        recorded = launches(Precision.of("native"), activation)
        found |= {f"{name} {activation}": _only(recorded[f"{name}_kernel"]) for name in ("up", "dh")}
        down, dx = sorted(recorded["rows_kernel"].values(), key=lambda words: words[2]["INNER"])
        dw_up, dw_down = (recorded["weight_gradient_kernel"][str({"GATHER_LEFT": left})] for left in (True, False))
        found |= {"down": down, "dx": dx, "dw_up": dw_up, "dw_down": dw_down, "combine": _only(recorded["combine_kernel"])}
    return found


def _only(kinds: dict[str, tuple]) -> tuple:
    (words,) = kinds.values()
    return words


def compiled(
    kernel, types: dict[str, str], values: dict[str, object], launch: dict[str, int], target: int
) -> dict[str, object]:
    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in types}  # as launches of contiguous tensors find
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in values.items()}, aligned)
    binary = triton.compile(source, target=GPUTarget("cuda", target, 32), options=launch)
    ptx = binary.asm["ptx"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        assembler = triton.knobs.nvidia.ptxas_blackwell.path if target >= 100 else triton.knobs.nvidia.ptxas.path
        architecture = re.search(r"\.target (\S+)", ptx).group(1).rstrip(",")
        command = [assembler, "-v", f"--gpu-name={architecture}", path, "-o", Path(folder) / "out"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {
        "spill bytes": sum(int(n) for n in re.findall(r"(\d+) bytes spill", said)),
        "registers": int(re.search(r"Used (\d+) registers", said).group(1)),
        "float atomics": len(re.findall(r"\b(?:atom|red)\.\S*\.(?:f16|bf16|f32|f64)", ptx)),
        "tensor core instructions": len(re.findall(r"\b(?:mma\.sync|wgmma\.mma_async|tcgen05\.mma)", ptx)),
        "wgmma": ptx.count("wgmma.mma_async"),
        "wgmma operands": sorted(set(re.findall(r"wgmma\.mma_async\.\S*m\d+n\d+k\d+\.(\S+)", ptx))),
        "maxima that drop NaN": len(re.findall(r"\b(?:max|min)\.f32", ptx)),
        "64-bit products": len(re.findall(r"\b(?:mul\.lo|mad\.lo|mul\.wide|mad\.wide)\.[su]\d\d", ptx))
        - ptx.count("mul.lo.s32")
        - ptx.count("mad.lo.s32"),
        "shared bytes": binary.metadata.shared,
    }


if __name__ == "__main__":
    everything = sources()
    assert tuple(sorted(everything)) == tuple(sorted(KERNELS))
    wanted = [int(word) for word in sys.argv[1:]] or TARGETS
    print(json.dumps({f"{name}, sm_{t}": compiled(*everything[name], t) for name in KERNELS for t in wanted}))
