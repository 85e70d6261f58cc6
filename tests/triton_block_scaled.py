"""Runs the kernels for tensor cores that take block scales (compute capability 10.x) in Triton's interpreter, which has no
such product: here it is numpy's, over what the packed codes and scales say. Prints what was found as one JSON object.

Its own process, run by tests/test_kernels_block_scaled.py. Shown are layouts, packing, scales and flow; that the assembler
makes the instruction of it is shown by compiling ahead of time.
"""

import json
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import triton.language as tl  # noqa: E402
import triton_interpreter  # noqa: E402, F401
from expert_inputs import inputs, relative_error  # noqa: E402
from triton.runtime.interpreter import TensorHandle  # noqa: E402
from triton_quantized_experts import KEY, dialled, gradient  # noqa: E402

from kernels.activation import ACTIVATIONS  # noqa: E402
from kernels.formats import E2M1, E4M3  # noqa: E402
from kernels.observe import observed  # noqa: E402
from kernels.quantize import quantize  # noqa: E402
from kernels.triton import expert_mlp  # noqa: E402
from kernels.triton.blockscaled import FORMATS  # noqa: E402
from kernels.triton.operands import Quantizer  # noqa: E402

LARGE, EMPTY = "more rows than a tile, several blocks", "empty experts"
SHAPES = {  # tokens, width, expert width, experts, top-k, routing, activation
    EMPTY: (33, 64, 32, 6, 2, "two experts", "relu2"),
    LARGE: (140, 160, 96, 2, 1, "distinct", "swiglu"),
    "no token": (0, 32, 32, 2, 1, "distinct", "swiglu"),
}
CASES = {"nvfp4": (EMPTY, LARGE, "no token"), "mxfp8": (LARGE,), "mxfp4": (EMPTY,)}
NAMES = ("y", "dx", "dw_up", "dw_down", "dweight")


def dot_scaled(lhs, lhs_scale, lhs_format, rhs, rhs_scale, rhs_format, acc):
    left = _decoded(lhs, lhs_scale, lhs_format)
    right = _decoded(rhs, rhs_scale, rhs_format, transposed=True)
    total = acc.handle.data + (left.astype(np.float64) @ right.astype(np.float64).T).astype(np.float32)
    return tl.tensor(TensorHandle(total.astype(np.float32), tl.float32), acc.type)


def _decoded(codes, scale, format, transposed=False):
    """(rows, inner) fp32."""
    codes = torch.from_numpy(np.ascontiguousarray(codes.handle.data.T if transposed else codes.handle.data)).view(torch.uint8)
    scales = torch.from_numpy(np.ascontiguousarray(scale.handle.data)).view(torch.uint8)
    e8m0 = scale.handle.dtype == tl.uint8
    spread = scales.view(torch.float8_e8m0fnu if e8m0 else torch.float8_e4m3fn).float()
    if str(getattr(format, "value", format)) == "e2m1":
        values = E2M1.decode(torch.stack((codes & 15, codes >> 4), -1).flatten(-2))
    else:
        values = E4M3.decode(codes)
    assert values.shape[1] == spread.shape[1] * (32 if e8m0 else 16), (values.shape, spread.shape)
    return (values * spread.repeat_interleave(values.shape[1] // spread.shape[1], 1)).numpy()


tl.dot_scaled = dot_scaled


def both(format: str, case: tuple, native: bool) -> list[torch.Tensor]:
    tokens, width, expert_width, experts, top_k, kind, activation = case
    x, w_up, w_down, expert_TK, weight = inputs(tokens, width, expert_width, experts, top_k, activation, kind)
    given = (x, w_up, w_down, expert_TK, weight, ACTIVATIONS[activation], dialled(format), KEY)
    y, *kept = expert_mlp.forward(*given, native=native)
    return [y, *expert_mlp.backward(gradient(tokens, width), *given, *kept, native=native)]


def errors(format: str, case: str) -> dict[str, float]:
    """Against the products of the same codes without block scales, which other tests hold against the oracle."""
    found, expected = (both(format, SHAPES[case], native) for native in (True, False))
    return {name: relative_error(a, b) for name, a, b in zip(NAMES, found, expected)}


def operands(format: str) -> dict[str, bool]:
    """Whether packed codes and scales of weights are those of `kernels.quantize`."""
    w = torch.randn(2, 96, 64, generator=torch.Generator().manual_seed(8)) * 10.0 ** torch.arange(-3, 3).repeat(16).view(
        1, 96, 1
    )
    found = {}
    for blocks in ("1d", "2d"):
        dials = replace(dialled(format).quantization, weight_blocks=blocks)
        for inner in (1, 2):
            made = Quantizer(dials, torch.float32, KEY, native=True).weights(w, "weight_up", inner)
            expected = quantize(w, format, inner, square=blocks == "2d")
            codes = (E2M1 if made.packed else E4M3).decode(expected.codes)
            scale = expected.block_scale.float()
            if inner == 1:
                codes, scale = codes.mT, scale.mT
            same = torch.equal(made.codes().float(), codes) and torch.equal(made.scale.float(), scale)
            packed = made.values.dtype == torch.uint8 and made.values.shape[2] * 2 == codes.shape[2]
            found[f"{blocks}, {inner}"] = same and packed == (format != "mxfp8")
    return found


def noted(format: str) -> bool:
    """Whether a listener hears of packed codes what it hears of the others."""
    heard = []
    for native in (True, False):
        with observed() as found:
            both(format, SHAPES[EMPTY], native)
        (layer,) = found.values()
        heard.append(layer)
    return heard[0].keys() == heard[1].keys() and all(
        abs(heard[0][name][figure] - heard[1][name][figure]) < 1e-3 for name in heard[0] for figure in heard[0][name]
    )


if __name__ == "__main__":
    found = {f"{format}, {case}": errors(format, case) for format in FORMATS for case in CASES[format]}
    found |= {f"operands, {format}": operands(format) for format in FORMATS}
    found["noted, nvfp4"] = noted("nvfp4")
    print(json.dumps(found))
