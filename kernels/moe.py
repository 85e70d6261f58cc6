"""`moe_mlp`: the one operation behind every MoE layer, and the choice of who computes it.

Letters: T tokens, D width, F expert width, G width of the pre-activation (F, or 2F for SwiGLU), E experts, K top-k, P slots.

    y_t = sum over k of weight_tk * act(x_t w_up[expert_tk]) w_down[expert_tk]

`activation="swiglu"`: `w_up[..., :F]` is the gate, `[..., F:]` the value, act = silu(gate) * value.
`activation="relu2"`: act = relu(h)^2.
"""

import torch
from torch import Tensor

from kernels.activation import ACTIVATIONS
from kernels.backends import OPERATORS, operands_of
from kernels.precision import Precision
from kernels.reference import moe_mlp_reference
from kernels.reference_quantized import moe_mlp_quantized_reference
from kernels.routing import check_ids, check_weights

BACKENDS = ("reference", *OPERATORS)
FULL = Precision.of("full")


def moe_mlp(
    x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, *, activation: str,
    backend: str = "torch", precision: Precision = FULL, key_4: Tensor | None = None, debug: bool = False,
    operands: tuple[Tensor, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """The expert MLP, differentiable in x, both weights and the routing weights.

    x_TD, w_up_EDG, w_down_EFD: floating point; expert_TK: int64 ids in [0, E), or -1 for a dropped row, which is not computed
    and adds nothing (its routing weight has no gradient); weight_TK: fp32. `key_4` int64 (seed, step, first token, layer), by
    default zeros: what stochastic rounding draws by, and how an error names the place. Returns y_TD in fp32. K = 1, K = E,
    T = 1, empty experts and all tokens on one expert work; a token listing one expert twice gets it twice.
    `backend`: `reference` is the plain oracle; `torch` multiplies segments of rows, expert by expert; `inductor` does the same,
    everything between the products fused by torch.compile (needs a C++ compiler; not for `emulated`); `brgemm` is a kernel in
    C++ (needs a compiler too) for what is not quantized and has widths that are multiples of 32, and does the rest as they do;
    `triton` runs on a CUDA device (not for `emulated`; ids out of range are the caller's to avoid, as looking would wait for
    the device).
    `operands`: both weights in the arithmetic's dtype, made before, so that no call casts them; the gradients are still those
    of `w_up_EDG` and `w_down_EFD`. Not where weights are quantized.
    `debug` looks at the values too, before anything is launched, and waits for the device to do so.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit; ids out of range; an unknown backend or activation; a backend
            that cannot run on x's device or in this precision; operands of other shapes or another dtype; widths
            that the precision's blocks do not divide; with `debug` routing weights that are not finite, and ids out of range
            on every backend.
    """
    _check(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, backend)
    _check_blocks(w_up_EDG, w_down_EFD, precision)
    _check_operands(w_up_EDG, w_down_EFD, operands, precision)
    if key_4 is None and precision.quantization:
        key_4 = torch.zeros(4, dtype=torch.int64, device=x_TD.device)
    inputs = (x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK)
    if backend == "reference":
        check_ids(expert_TK, w_up_EDG.shape[0])
        if debug:
            check_weights(weight_TK)
        if precision.quantization:
            return moe_mlp_quantized_reference(*inputs, activation, precision, key_4)
        return moe_mlp_reference(*inputs, activation, precision.arithmetic)
    OPERATORS[backend].check(x_TD.device, precision)
    return _forward_op(*inputs, key_4, *(operands or (None, None)), activation, str(precision), backend, debug)[0]


def _check(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, backend) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r}: known are {', '.join(ACTIVATIONS)}")
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: known are {', '.join(BACKENDS)}")
    shapes = {"x": "TD", "w_up": "EDG", "w_down": "EFD", "expert": "TK", "weight": "TK"}
    for (name, letters), tensor in zip(shapes.items(), (x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK)):
        if tensor.ndim != len(letters):
            raise ValueError(f"{name} is {tuple(tensor.shape)}, but must have the dimensions {letters}")
        if tensor.device != x_TD.device:
            raise ValueError(f"{name} is on {tensor.device}, but x is on {x_TD.device}: all arguments must share a device")
        if name != "expert" and not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, but must be floating point")
    if expert_TK.dtype != torch.int64 or expert_TK.shape[1] < 1:
        raise ValueError(f"expert is {tuple(expert_TK.shape)} of {expert_TK.dtype}, but must be int64 with top-k of at least 1")
    experts, expert_width, width = w_down_EFD.shape
    expected = (experts, width, expert_width * ACTIVATIONS[activation].fan)
    if tuple(w_up_EDG.shape) != expected:
        raise ValueError(
            f"w_up is {tuple(w_up_EDG.shape)}, but w_down {tuple(w_down_EFD.shape)} and {activation} need {expected}"
        )
    if x_TD.shape[1] != width or expert_TK.shape != weight_TK.shape or expert_TK.shape[0] != x_TD.shape[0]:
        raise ValueError(
            f"x {tuple(x_TD.shape)}, expert {tuple(expert_TK.shape)}, weight {tuple(weight_TK.shape)} do not fit width {width}"
        )


def _check_operands(w_up_EDG, w_down_EFD, operands, precision: Precision) -> None:
    for name, w, operand in zip(("w_up", "w_down"), (w_up_EDG, w_down_EFD), operands or ()):
        if operand.shape != w.shape or operand.dtype != precision.arithmetic.dtype or precision.quantization:
            raise ValueError(
                f"the operand of {name} is {tuple(operand.shape)} of {operand.dtype}, but must be {tuple(w.shape)} of "
                f"{precision.arithmetic.dtype}, of a precision that quantizes nothing"
            )


def _check_blocks(w_up_EDG: Tensor, w_down_EFD: Tensor, precision: Precision) -> None:
    if precision.quantization is None:
        return
    block = precision.quantization.block
    for name, size in (("width", w_up_EDG.shape[1]), ("expert width", w_down_EFD.shape[1])):
        if size % block:
            raise ValueError(f"{precision.quantization.format} has blocks of {block}, which do not divide the {name} {size}")


@torch.library.custom_op("moe_speedrun::expert_mlp", mutates_args=())
def _forward_op(
    x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, key_4: Tensor | None,
    up_EDG: Tensor | None, down_EFD: Tensor | None, activation: str, precision: str, backend: str, debug: bool,
) -> list[Tensor]:  # fmt: skip
    """`up_EDG`, `down_EFD`: the operands, where there are."""
    if debug:
        check_ids(expert_TK, w_up_EDG.shape[0])
        check_weights(weight_TK)
    known = Precision.of(precision)
    it = OPERATORS[backend]
    weights = operands_of(it, known, (w_up_EDG, w_down_EFD), (up_EDG, down_EFD))
    tensors = (known.arithmetic.operand(x_TD), *weights, expert_TK, weight_TK)
    return list(it.forward(*tensors, ACTIVATIONS[activation], known, key_4))


@_forward_op.register_fake
def _(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, key_4, up_EDG, down_EFD, activation, precision, backend, debug):
    slots = OPERATORS[backend].saved_rows(expert_TK.numel(), w_up_EDG.shape[0])
    h_PG = x_TD.new_empty(slots, w_up_EDG.shape[2], dtype=Precision.of(precision).arithmetic.dtype)
    kept = OPERATORS[backend].kept(*expert_TK.shape, w_up_EDG.shape[0])
    return [x_TD.new_empty(x_TD.shape, dtype=torch.float32), h_PG, *(expert_TK.new_empty(shape) for shape in kept)]


@torch.library.custom_op("moe_speedrun::expert_mlp_backward", mutates_args=())
def _backward_op(
    dy_TD: Tensor, x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor,
    key_4: Tensor | None, up_EDG: Tensor | None, down_EFD: Tensor | None, h_PG: Tensor, kept: list[Tensor],
    activation: str, precision: str, backend: str,
) -> list[Tensor]:  # fmt: skip
    known = Precision.of(precision)
    it, x_TD = OPERATORS[backend], known.arithmetic.operand(x_TD)
    weights = operands_of(it, known, (w_up_EDG, w_down_EFD), (up_EDG, down_EFD))
    dy_TD = dy_TD if it.takes_masters else known.arithmetic.operand(dy_TD)
    return list(it.backward(dy_TD, x_TD, *weights, expert_TK, weight_TK, ACTIVATIONS[activation], known, key_4, h_PG, *kept))


@_backward_op.register_fake
def _(
    dy_TD, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, key_4, up_EDG, down_EFD, h_PG, kept, activation, precision, backend
):  # fmt: skip
    of_weights = OPERATORS[backend].gradient_dtype(Precision.of(precision).arithmetic)
    dtypes = (torch.float32, of_weights, of_weights, torch.float32)
    return [t.new_empty(t.shape, dtype=dtype) for t, dtype in zip((x_TD, w_up_EDG, w_down_EFD, weight_TK), dtypes)]


def _setup(ctx, inputs, output) -> None:
    *tensors, ctx.activation, ctx.precision, ctx.backend, _ = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx, grads):
    saved = ctx.saved_tensors  # once: a checkpointed block computes them again
    tensors, kept = saved[:9], list(saved[9:])
    x_TD, w_up_EDG, w_down_EFD, _, weight_TK = tensors[:5]
    dx, dw_up, dw_down, dweight = _backward_op(grads[0], *tensors, kept, ctx.activation, ctx.precision, ctx.backend)
    like = (t.dtype for t in (x_TD, w_up_EDG, w_down_EFD, weight_TK))
    dx, dw_up, dw_down, dweight = (g.to(dtype) for g, dtype in zip((dx, dw_up, dw_down, dweight), like))
    return dx, dw_up, dw_down, None, dweight, *[None] * 7


def _no_second_backward(ctx, grads):
    raise RuntimeError(
        "moe_mlp has no second derivative, but its gradient was differentiated (create_graph=True); backend='reference' has one"
    )


_forward_op.register_autograd(_backward, setup_context=_setup)
_backward_op.register_autograd(_no_second_backward)
