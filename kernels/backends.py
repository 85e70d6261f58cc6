"""The backends behind the custom operators of `kernels.moe`, under one interface.

Letters as in `kernels.moe`. A backend takes operands (already in the arithmetic's dtype), fp32 routing weights and int64 ids.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from kernels import cpu, cpu_fused, cpu_quantized
from kernels.precision import Precision
from kernels.rounding import Arithmetic
from kernels.routing import segments, slot_bound
from kernels.stages import stage


@dataclass(frozen=True)
class Backend:
    """forward(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4) -> (y_TD in fp32, h_PG for
    backward); backward(dy_TD, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4, h_PG) ->
    gradients of x, both weights and the routing weights, fp32 but for the weights' of dtype gradient_dtype(arithmetic);
    saved_rows(T*K, E) -> P; check(device, precision): ValueError where it cannot run."""

    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]
    saved_rows: Callable[[int, int], int]
    gradient_dtype: Callable[[Arithmetic], torch.dtype]
    check: Callable[[torch.device, Precision], None]


def _on_segments(module: ModuleType, check: Callable[[torch.device, Precision], None]) -> Backend:
    """A CPU backend: its module works on padded segments of rows; below bf16 `cpu_quantized` does, fused or not as it is."""
    fused = module is cpu_fused

    def forward(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4):
        rows, experts = expert_TK.numel(), w_up_EDG.shape[0]
        with stage("metadata"):
            where = segments(expert_TK, experts)
        h_PG = x_TD.new_empty(slot_bound(rows, experts), w_up_EDG.shape[2])
        h_PG[where.token_P.numel() :] = 0  # the tail that no expert needed: an output must not depend on old memory
        words = (x_TD, w_up_EDG, w_down_EFD, weight_TK, where, activation)
        if precision.quantization:
            return cpu_quantized.forward(*words, precision, h_PG, key_4, fused), h_PG
        return module.forward(*words, precision.arithmetic, h_PG), h_PG

    def backward(dy_TD, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4, h_PG):
        with stage("metadata"):
            where = segments(expert_TK, w_up_EDG.shape[0])
        words = (dy_TD, x_TD, w_up_EDG, w_down_EFD, weight_TK, where, activation)
        if precision.quantization:
            found = cpu_quantized.backward(*words, precision, h_PG, key_4, fused)
        else:
            found = module.backward(*words, precision.arithmetic, h_PG)
        dx, dw_up, dw_down, dweight_TK = found
        if where.dropped:  # the padding slot that dropped rows share has a gradient of its own, which is nobody's
            dweight_TK = dweight_TK.masked_fill(expert_TK < 0, 0.0)
        return dx, dw_up, dw_down, dweight_TK

    return Backend(forward, backward, slot_bound, lambda arithmetic: arithmetic.dtype, check)


def _check_torch(device: torch.device, precision: Precision) -> None:
    if device.type == "cuda":
        raise ValueError(f"x is on {device}, but the backends torch and inductor run on a CPU; use backend='triton' on a GPU")


def _check_inductor(device: torch.device, precision: Precision) -> None:
    _check_torch(device, precision)
    if precision.arithmetic.rounds:
        raise ValueError(
            f"backend='inductor' with precision={precision.arithmetic.name!r}: Inductor drops the rounding of emulated bf16; "
            "use backend='torch'"
        )


def _triton() -> ModuleType:
    import kernels.triton  # where it is asked for: a machine without a GPU need not have it

    return kernels.triton


def _check_triton(device: torch.device, precision: Precision) -> None:
    if precision.quantization:
        raise ValueError(f"backend='triton' has no kernels for {precision.quantization.format} yet; use backend='reference'")
    if precision.arithmetic.rounds:
        raise ValueError(
            f"backend='triton' with precision={precision.arithmetic.name!r}: a GPU multiplies bf16 natively; use 'native'"
        )
    if device.type != "cuda" and not _triton().interpreted():
        raise ValueError(f"x is on {device}, but backend='triton' needs a CUDA device; use backend='torch' on a CPU")


def _triton_forward(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4):
    return _triton().forward(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision.arithmetic)


def _triton_backward(dy_TD, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4, h_RG):
    operands = (dy_TD, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK)
    return _triton().backward(*operands, activation, precision.arithmetic, h_RG)


OPERATORS = {
    "torch": _on_segments(cpu, _check_torch),
    "inductor": _on_segments(cpu_fused, _check_inductor),
    "triton": Backend(
        _triton_forward,
        _triton_backward,
        lambda rows, experts: rows,
        lambda arithmetic: torch.float32,
        _check_triton,
    ),
}
