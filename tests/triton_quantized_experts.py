"""What the interpreted kernels below bf16 quantize expert by expert, and what all checks of tests/triton_quantized.py share.

That script sets the interpreter up before it imports this."""

from dataclasses import replace

import torch
from expert_inputs import inputs, relative_error, run
from triton_quantized_cases import NAMES

from kernels import Arithmetic
from kernels.formats import E2M1, E4M3
from kernels.hadamard import transform_rows
from kernels.noise import uniform, word
from kernels.precision import Precision, Quantization
from kernels.quantize import quantize
from kernels.triton.metadata import order, routes
from kernels.triton.operands import Quantizer

KEY = torch.tensor([3, 17, 2**40 + 5, -1])
FULL = Arithmetic.of("full")


def dialled(format: str, **dials) -> Precision:
    return Precision(FULL, replace(Quantization.recipe(format), **dials))


def gradient(tokens: int, width: int) -> torch.Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(1))


def same_operand(found, values: torch.Tensor, expected) -> bool:
    """Whether codes and scales are those of `kernels.quantize`, whose codes `values` decodes."""
    codes = found.values.float()
    same = torch.equal(codes, values) and torch.equal(torch.signbit(codes), torch.signbit(values))
    same = same and torch.equal(found.scale.float().view(-1), expected.block_scale.float().reshape(-1))
    return same and (expected.tensor_scale is None or torch.equal(found.tensor_scale, expected.tensor_scale))


def by_expert() -> dict[str, bool]:
    """Tensor scales of experts: operands bit for bit those of `kernels.quantize` of each expert's part, outputs against the
    reference with empty experts, dropped rows, no token; one expert's bits, and what reaches another expert's tokens."""
    dials = replace(Quantization.recipe("nvfp4"), tensor_scale="expert")
    precision, layer = Precision(FULL, dials), Precision(FULL, replace(dials, tensor_scale="layer"))
    draws = torch.Generator().manual_seed(9)
    tensors, dy_TD = inputs(37, 48, 32, 4, 2, "swiglu"), gradient(37, 48)
    expert_TK = torch.where(tensors[3] == 2, 0, tensors[3])  # an empty expert
    expert_TK[torch.arange(37) % 5 == 0, 1] = -1
    size_T1 = 10.0 ** torch.randint(-3, 3, (37, 1), generator=draws)
    tensors, dy_TD = (tensors[0] * size_T1, *tensors[1:3], expert_TK, tensors[4]), dy_TD * size_T1
    found = {f"operands, {name}": same for name, same in operands_by_expert(dials, *tensors[:2], expert_TK).items()}
    options = {"activation": "swiglu", "key_4": KEY}
    for name, tokens in (("empty experts and dropped rows", 37), ("no token", 0)):
        part, dy = tuple(t if t.ndim == 3 else t[:tokens] for t in tensors), dy_TD[:tokens]
        ours, theirs = (run(part, dy, backend=backend, precision=precision, **options) for backend in ("triton", "reference"))
        found[name] = all(relative_error(a, b) <= 1e-5 for a, b in zip(ours, theirs))
    alone = (tensors[0], *(w[:1] for w in tensors[1:3]), torch.zeros(37, 1, dtype=torch.int64), tensors[4][:, :1])
    pair = (run(alone, dy_TD, backend="triton", precision=p, **options) for p in (precision, layer))
    found["one expert has the bits of the layer's scale"] = all(torch.equal(a, b) for a, b in zip(*pair))
    there, only = expert_TK[:, 0] == 0, (*tensors[1:3], expert_TK[:, :1], tensors[4][:, :1])
    before, after = (
        run((x, *only), dy, backend="triton", precision=precision, **options)
        for x, dy in ((tensors[0], dy_TD), (torch.where(there.unsqueeze(1), t * 64, t) for t in (tensors[0], dy_TD)))
    )
    found["what another expert sees reaches no token"] = not torch.equal(before[0], after[0]) and all(
        torch.equal(a[~there], b[~there]) for a, b in zip(before[:2], after[:2])
    )
    return found


def operands_by_expert(dials: Quantization, x: torch.Tensor, w: torch.Tensor, expert_TK: torch.Tensor) -> dict[str, bool]:
    """Of rows, weights and slots: whether all of every expert is what `kernels.quantize` makes of its own part."""
    where, blocks, make = routes(order(expert_TK, 4), 64), routes(order(expert_TK, 4), 16), Quantizer(dials, torch.float32, KEY)
    starts, token_R = where.start_E1.tolist(), where.row_R // 2
    rows = make.rows_of_tokens(x, "gradient", "gradient", where, 2)
    weights = make.weights(w, "weight_up", 1)
    slots = make.slots(x, blocks, 2, True, "wgrad_input")
    found = {"rows": rows.by_row, "weights": True, "slots": True}
    at = 0
    for expert, (start, end) in enumerate(zip(starts, starts[1:])):
        own, noise = x[token_R[start:end]], uniform(
            word(KEY, "gradient"), token_R[start:end].int().unsqueeze(1), torch.arange(x.shape[1]).int()
        )  # fmt: skip
        own = own if len(own) else torch.zeros(0, x.shape[1])
        padded = torch.cat([own, own.new_zeros(-len(own) % 16, x.shape[1])])
        padded = transform_rows(padded) if dials.hadamard else padded
        parts = {
            "rows": (rows, quantize(own, "nvfp4", noise=noise), slice(start, end), slice(start, end)),
            "weights": (weights, quantize(w[expert].mT, "nvfp4", square=True), expert, expert),
            "slots": (
                slots,
                quantize(padded, "nvfp4", 0),
                slice(at, at + len(padded)),
                slice(at // 16, (at + len(padded)) // 16),
            ),
        }
        for name, (made, expected, values, scales) in parts.items():
            part = replace(made, values=made.values[values], scale=made.scale[scales], tensor_scale=made.tensor_scale[expert])
            found[name] = found[name] and same_operand(part, E2M1.decode(expected.codes), expected)
        at += len(padded)
    return found


def fp8_weight_gradients() -> dict[str, bool]:
    """Factors in blocks of 128 rows of an expert, an empty one and short last blocks among them: operands bit for bit those of
    `kernels.quantize`, outputs against the reference with dropped rows too."""
    case, found = (300, 128, 128, 3, 1, "distinct", "relu2"), {}
    x, w_up, w_down, expert_TK, weight = inputs(*case[:5], case[6], case[5])
    expert_TK[expert_TK == 1] = 2
    blocks, dials = (
        routes(order(expert_TK, 3), 128),
        dialled("fp8", fp8_weight_gradients=True, stochastic_rounding=True).quantization,
    )
    made = Quantizer(dials, torch.float32, KEY).slots(x, blocks, 1, True, "wgrad_gradient")
    padded = [torch.cat([own, own.new_zeros(-len(own) % 128, 128)]) for e in range(3) for own in [x[expert_TK[:, 0] == e]]]
    padded, columns = torch.cat(padded), torch.arange(128).int()
    noise = uniform(word(KEY, "wgrad_gradient"), torch.arange(len(padded)).int().unsqueeze(1), columns)
    expected, tiles = quantize(padded, "fp8", 0, noise=noise), len(padded) // 128
    made = replace(made, values=made.values[:tiles].mT.reshape(padded.shape), scale=made.scale[:tiles])
    found["operands"] = same_operand(made, E4M3.decode(expected.codes), expected) and tiles == 3
    expert_TK[::7] = -1
    options = {"activation": "relu2", "precision": Precision(FULL, dials), "key_4": KEY}
    ours, theirs = (
        run((x, w_up, w_down, expert_TK, weight), gradient(300, 128), backend=b, **options) for b in ("triton", "reference")
    )
    errors = {n: relative_error(a, b) for n, a, b in zip(NAMES, ours, theirs)}
    found["gradients of weights"] = max(errors["dw_up"], errors["dw_down"]) <= 1e-5
    return found
