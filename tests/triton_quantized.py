"""Runs the Triton kernels below bf16 in Triton's interpreter and prints what was found as one JSON object.

Its own process, run by tests/test_kernels_triton_quantized.py. Arithmetic `full`: what is not quantized stays fp32, since the
interpreter truncates where a GPU rounds to bf16.
"""

import json
import os
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))
warnings.simplefilter("ignore")  # numpy's, of 0/0 in blocks of zeros, which are then masked

import torch  # noqa: E402
import triton_interpreter  # noqa: E402, F401
from expert_inputs import inputs, relative_error, run  # noqa: E402
from triton_quantized_cases import CASES, DIALLED, DIALS, NAMES, WHOLE  # noqa: E402
from triton_quantized_experts import KEY, by_expert, dialled, fp8_weight_gradients, gradient, same_operand  # noqa: E402

from kernels.hadamard import transform_rows  # noqa: E402
from kernels.noise import uniform, word  # noqa: E402
from kernels.observe import observed  # noqa: E402
from kernels.precision import MX, Quantization  # noqa: E402
from kernels.quantize import ELEMENTS, quantize  # noqa: E402
from kernels.triton.metadata import order, routes  # noqa: E402
from kernels.triton.operands import Quantizer  # noqa: E402


def against_reference(format: str, case: tuple, **dials) -> tuple[dict[str, float], list[torch.Tensor], int]:
    """Errors of the outputs at the first of three draws where none is above 1e-5, the outputs, and which draw it is.

    Draws, because an activation that the order of a sum moves across a tie of the format changes its code, in both right:
    once in some 10^5 values, the sums differing by 10^-7. What is wrong is wrong in every draw."""
    tokens, width, expert_width, experts, top_k, kind, activation = case
    options = {"activation": activation, "precision": dialled(format, **dials), "key_4": KEY}
    for seed in range(3):
        tensors = inputs(tokens, width, expert_width, experts, top_k, activation, kind, seed)
        dy_TD = gradient(tokens, width)
        found, expected = (run(tensors, dy_TD, backend=backend, **options) for backend in ("triton", "reference"))
        off = {n: relative_error(a, b) for n, a, b in zip(NAMES, found, expected)}
        if max(off.values()) <= 1e-5:
            break
    return off, found, seed


@cache
def of_case(format: str, case: str) -> tuple[dict[str, float], list[torch.Tensor], int]:
    return against_reference(format, CASES[format][case])


def errors(format: str, case: str) -> dict[str, float]:
    return of_case(format, case)[0]


def repeats(format: str) -> bool:
    """Whether another run has the same bits."""
    tokens, width, expert_width, experts, top_k, kind, activation = CASES[format]["empty experts"]
    _, first, seed = of_case(format, "empty experts")
    tensors = inputs(tokens, width, expert_width, experts, top_k, activation, kind, seed)
    words = {"activation": activation, "precision": dialled(format), "key_4": KEY}
    again = run(tensors, gradient(tokens, width), backend="triton", **words)
    return all(torch.equal(a, b) for a, b in zip(first, again))


def with_dial(format: str, name: str) -> dict[str, float]:
    """Errors against the reference with the same dial, and how far the dial moves y and gradients at all."""
    case = (20, 128, 128, 2, 1, "distinct", "swiglu") if format == "fp8" else (20, 32, 32, 2, 1, "distinct", "relu2")
    off, *_ = against_reference(format, case, **DIALS[format][name])
    tensors, dy_TD = inputs(*case[:5], case[6], case[5]), gradient(20, case[1])
    with_it, without = (
        run(tensors, dy_TD, activation=case[6], backend="reference", precision=dialled(format, **dials), key_4=KEY)
        for dials in (DIALS[format][name], {})
    )
    return {"error": max(off.values()), "moved": max(relative_error(a, b) for a, b in zip(with_it, without))}


def operands(format: str) -> dict[str, bool]:
    """Whether each quantizer's operand is `kernels.quantize`'s, bit for bit: wide magnitudes, zero blocks, ties, -0."""
    draws, decode = torch.Generator().manual_seed(5), ELEMENTS[format].decode
    found = {}
    for clip in (1.0, 0.75):
        make = Quantizer(replace(Quantization.recipe(format), clip=clip, stochastic_rounding=True), torch.float32, KEY)
        x = torch.randn(70, 256, generator=draws) * 10.0 ** torch.randint(-6, 3, (70, 2), generator=draws).repeat(1, 128)
        x[3:5] = 0.0
        x[6, :16] = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0] * 2) * torch.tensor([1.0, -1.0] * 8)
        x[7] = -0.0
        name_R, where = torch.randint(1000, (70,), generator=draws), routes(order(torch.zeros(70, 1, dtype=torch.int64), 1), 64)
        for tensor in ("input", "gradient", "hidden_gradient"):
            name = {"input": None, "gradient": torch.arange(70), "hidden_gradient": name_R}[tensor]
            noise = None if name is None else uniform(word(KEY, tensor), name.int().unsqueeze(1), torch.arange(256).int())
            expected = quantize(x, format, clip=clip, noise=noise)
            rows = make.rows(x, "input", tensor, where, name_R if tensor == "hidden_gradient" else None)
            found[f"rows {tensor}, clip {clip}"] = same_operand(rows, decode(expected.codes), expected)
        w = torch.randn(2, 128, 256, generator=draws)
        for blocks in ("1d", "2d"):
            for inner in (1, 2):
                expected = quantize(w, format, inner, square=blocks == "2d", clip=clip)
                made = Quantizer(replace(make.dials, weight_blocks=blocks), torch.float32, KEY).weights(w, "weight_up", inner)
                values = decode(expected.codes)
                if inner == 1:
                    values, expected = values.mT, replace(expected, block_scale=expected.block_scale.mT)
                found[f"weights {blocks} {inner}, clip {clip}"] = same_operand(made, values, expected)
    return found


def slots(format: str) -> dict[str, bool]:
    """Factors of weight gradients in blocks of rows of an expert, on values that the transform sums exactly."""
    draws, found, width, length = torch.Generator().manual_seed(6), {}, 48, Quantization.recipe(format).block
    expert_TK = torch.randint(4, (37, 2), generator=draws)
    expert_TK[expert_TK == 2] = 0  # an empty expert
    blocks = routes(order(expert_TK, 4), length)
    x = torch.randint(-64, 65, (37, width), generator=draws).float() * 2.0 ** torch.randint(-3, 1, (1, width), generator=draws)
    starts = blocks.start_E1.tolist()
    of_experts = [x[blocks.row_R[start:end] // 2] for start, end in zip(starts, starts[1:])]
    plain = torch.cat([torch.cat([own, own.new_zeros(-len(own) % length, width)]) for own in of_experts])
    used = len(plain)
    for hadamard in (True, False):
        for stochastic in (True, False):
            dials = replace(Quantization.recipe(format), hadamard=hadamard, stochastic_rounding=stochastic)
            padded = transform_rows(plain) if hadamard else plain
            slot = torch.arange(used, dtype=torch.int32).unsqueeze(1)
            noise = uniform(word(KEY, "wgrad_gradient"), slot, torch.arange(width).int()) if stochastic else None
            expected = quantize(padded, format, 0, noise=noise)
            for by_token, given in ((True, x), (False, x[blocks.row_R // 2])):
                made = Quantizer(dials, torch.float32, KEY).slots(given, blocks, 2, by_token, "wgrad_gradient")
                made = replace(made, values=made.values[:used], scale=made.scale[: used // length])
                name = f"hadamard {hadamard}, stochastic {stochastic}, by token {by_token}"
                found[name] = same_operand(made, ELEMENTS[format].decode(expected.codes), expected)
    return found


def dropped(format: str) -> dict[str, object]:
    """Rows without an expert: errors against the reference, with every new tensor full of NaN; whether the gradients of their
    weights are exact zeros."""
    width = 128 if format == "fp8" else 32
    x, w_up, w_down, expert_TK, weight = inputs(20, width, width, 3, 2, "relu2")
    expert_TK = torch.where(torch.arange(40).view(20, 2) % 3 == 0, -1, expert_TK)
    options = {"activation": "relu2", "precision": dialled(format), "key_4": KEY}
    runs = []
    for backend in ("triton", "reference"):
        torch.use_deterministic_algorithms(backend == "triton")
        runs.append(run((x, w_up, w_down, expert_TK, weight), gradient(20, width), backend=backend, **options))
    torch.use_deterministic_algorithms(False)
    return {
        "errors": {n: relative_error(a, b) for n, a, b in zip(NAMES, *runs)},
        "zeros": not runs[0][4][expert_TK < 0].any(),
    }


def telemetry(format: str, **dials) -> dict[str, object]:
    """Tensors of which the kernels note what the CPU's quantizers note, and whether bits are those of an unobserved run."""
    width = 128 if format == "fp8" else 32
    tensors, dy_TD = inputs(20, width, width, 3, 2, "relu2"), gradient(20, width)
    options = {"activation": "relu2", "precision": dialled(format, **dials), "key_4": KEY % 5}
    alone, noted = run(tensors, dy_TD, backend="triton", **options), {}
    for backend in ("triton", "torch"):
        with observed() as noted[backend]:
            found = run(tensors, dy_TD, backend=backend, **options)
        if backend == "triton":
            same_bits = all(torch.equal(a, b) for a, b in zip(found, alone))
    (here, there), layer = noted.values(), int(KEY[3] % 5)
    close = {"snr_db": 1e-3, "underflow": 1e-6, "smallest": 1e-6, "saturation": 1e-2}  # a CPU's shares count its padding
    same = [
        name
        for name, figures in there[layer].items()
        if all(abs(here[layer][name][k] - figures[k]) <= bound for k, bound in close.items())
    ]
    return {"as on a CPU": sorted(same), "same bits": same_bits}


def invariance(format: str) -> bool:
    """Whether tokens' y and dx have the same bits among 40 as among few. In nvfp4 the first token, in every batch, holds the
    largest element of every tensor, which pins the scale of each."""
    width = 128 if format == "fp8" else 32
    x, w_up, w_down, expert_TK, weight = inputs(40, width, width, 3, 2, "swiglu")
    dy_TD = gradient(40, width)
    x[0], dy_TD[0], weight[0] = x[0] * 30, dy_TD[0] * 30, 1.0
    options = {"activation": "swiglu", "backend": "triton", "precision": dialled(format, stochastic_rounding=False)}
    y_all, dx_all, *_ = run((x, w_up, w_down, expert_TK, weight), dy_TD, **options)
    equal = True
    for chosen in (torch.tensor([0, 7]), torch.arange(0, 40, 3)):
        part = (x[chosen], w_up, w_down, expert_TK[chosen], weight[chosen])
        y, dx, *_ = run(part, dy_TD[chosen], **options)
        equal = equal and torch.equal(y, y_all[chosen]) and torch.equal(dx, dx_all[chosen])
    if format != "nvfp4":  # and without such a token
        y, dx, *_ = run((x[5:9], w_up, w_down, expert_TK[5:9], weight[5:9]), dy_TD[5:9], **options)
        equal = equal and torch.equal(y, y_all[5:9]) and torch.equal(dx, dx_all[5:9])
    return equal


def not_finite(format: str, activation: str) -> dict[str, bool]:
    """Where a value that is not finite shows: in fp8 in its own token's row, in nvfp4 in the whole tensor."""
    width = {"fp8": 128, "nvfp4": 16}.get(format, 32)
    tensors, dy_TD = inputs(5, width, width, 2, 1, activation), gradient(5, width)
    found = {}
    for bad in (float("nan"), float("inf")):
        broken = [t.clone() for t in tensors]
        broken[0][3, 1] = bad
        y, dx, dw_up, *_ = run(broken, dy_TD, activation=activation, backend="triton", precision=dialled(format), key_4=KEY)
        lost = torch.ones(5, dtype=torch.bool) if format == "nvfp4" else torch.arange(5) == 3
        found[f"{bad} in x"] = torch.equal((~y.isfinite()).any(1), lost) and bool((~dw_up.isfinite()).any())
        broken = [t.clone() for t in tensors]
        broken[2][tensors[3][0, 0], 2, 3] = bad
        y, dx, *_ = run(broken, dy_TD, activation=activation, backend="triton", precision=dialled(format), key_4=KEY)
        found[f"{bad} in w_down"] = bool((~y[0].isfinite()).any() and (~dx[0].isfinite()).any())
        there = dy_TD.clone()
        there[2, 5] = bad
        _, dx, dw_up, dw_down, _ = run(tensors, there, activation=activation, backend="triton", precision=dialled(format))
        found[f"{bad} in dy"] = bool((~dx[2].isfinite()).any() and (~dw_down.isfinite()).any())
    return found


if __name__ == "__main__":
    found = {f"{format}, {case}": errors(format, case) for format, cases in CASES.items() for case in cases}
    found |= {f"{format}, {name}": with_dial(format, name) for format, dials in DIALS.items() for name in dials}
    found |= {f"operands, {format}": operands(format) for format in CASES}
    for format in WHOLE:
        found |= {f"invariance, {format}": invariance(format), f"repeats, {format}": repeats(format)}
        found[f"dropped, {format}"] = dropped(format)
        found[f"not finite, {format}"] = not_finite(format, "relu2" if format == "fp8" else "swiglu")
    found |= {f"slots, {format}": slots(format) for format in ("nvfp4", *MX)}
    found |= {f"telemetry, {name}": telemetry(name.split()[0], **DIALLED[name]) for name in DIALLED}
    print(json.dumps(found | {"by expert": by_expert(), "fp8 weight gradients": fp8_weight_gradients()}))
