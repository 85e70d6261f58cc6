"""Compiles the Triton kernels for GPUs that are not here and prints, as one JSON object, what the assembler made of them.

Its own process: the interpreter must be off. Shapes and pointer alignments are those of the lane moe-64e in bf16.
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
from triton_shapes import KERNELS, TARGETS  # noqa: E402

from kernels.triton.backward import dh_kernel, weight_gradient_kernel  # noqa: E402
from kernels.triton.configuration import SAFE  # noqa: E402
from kernels.triton.forward import combine_kernel, rows_kernel, up_kernel  # noqa: E402

WIDTH, EXPERT_WIDTH, TOP_K = 768, 384, 6
C = SAFE[torch.bfloat16]
ROUTES = {"row_R": "*i64", "start_E1": "*i64", "tile_expert_I": "*i64", "tile_row_I": "*i64"}


def sources():
    """{name: (kernel, types of the pointers and numbers, compile-time values, launch options)}."""
    found = {}
    for activation, gated in (("relu2", False), ("swiglu", True)):
        values = {"D": WIDTH, "F": EXPERT_WIDTH, "K": TOP_K, "GATED": gated, "PRECISION": "ieee", "BLOCK_R": C.rows}
        up = {"x_TD": "*bf16", "w_up_EDG": "*bf16", "h_RG": "*bf16", "a_RF": "*bf16", "weight_TK": "*fp32"} | ROUTES
        dh = {"dy_TD": "*bf16", "w_down_EFD": "*bf16", "h_RG": "*bf16", "dh_RG": "*bf16", "a_RF": "*bf16"}
        dh |= {"dweight_RN": "*fp32", "weight_TK": "*fp32"} | ROUTES
        found[f"up {activation}"] = (up_kernel, up, values | {"BLOCK_N": C.up.columns}, C.up.launch)
        found[f"dh {activation}"] = (dh_kernel, dh, values | {"BLOCK_N": C.dh.columns}, C.dh.launch)
    rows = {"in_RI": "*bf16", "w_EIO": "*bf16", "out_RO": "*bf16", "start_E1": "*i64", "tile_expert_I": "*i64"}
    rows |= {"tile_row_I": "*i64", "expert_stride": "i32", "inner_stride": "i32", "outer_stride": "i32"}
    for name, tile, ones in (("down", C.down, "outer_stride"), ("dx", C.dx, "inner_stride")):
        types = {key: kind for key, kind in rows.items() if key != ones}
        values = {
            ones: 1,
            "INNER": EXPERT_WIDTH,
            "OUTER": WIDTH,
            "PRECISION": "ieee",
            "BLOCK_R": C.rows,
            "BLOCK_N": tile.columns,
        }
        found[name] = (rows_kernel, types, values, tile.launch)
    dw = {"left": "*bf16", "right": "*bf16", "dw_EIO": "*fp32", "row_R": "*i64", "start_E1": "*i64"}
    for name, tile, inputs, outputs in (("dw_up", C.dw_up, WIDTH, EXPERT_WIDTH), ("dw_down", C.dw_down, EXPERT_WIDTH, WIDTH)):
        values = {"INPUTS": inputs, "OUTPUTS": outputs, "GATHER_LEFT": name == "dw_up", "PRECISION": "ieee", "K": TOP_K}
        values |= {"BLOCK_I": C.dw_rows, "BLOCK_O": tile.columns}
        found[name] = (weight_gradient_kernel, dw, values, tile.launch)
    combine = {"rows_RD": "*bf16", "slot_TK": "*i64", "start_E1": "*i64", "out_TD": "*fp32", "T": "i32"}
    sizes = {"D": WIDTH, "K": TOP_K, "BLOCK_T": C.combine_tokens, "BLOCK_N": C.combine_columns}
    found["combine"] = (combine_kernel, combine, sizes, {})
    return found


def compiled(kernel, types: dict[str, str], values: dict[str, object], launch: dict[str, int], target: int) -> dict[str, int]:
    values = values | {k: v for k, v in launch.items() if k == "BLOCK_K"}
    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in types}  # as launches of contiguous tensors find
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in values.items()}, aligned)
    options = {k: v for k, v in launch.items() if k != "BLOCK_K"}
    binary = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
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
