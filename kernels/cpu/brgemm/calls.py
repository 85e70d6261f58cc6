"""The kernels of this folder as functions of tensors, which must be contiguous and on the CPU.

Letters as in the C++ sources. `arithmetic`: a name of `kernels.precision`. Operands (q, k, v, o, x, h) have its dtype.
"""

import ctypes

import torch
from torch import Tensor

from kernels.cpu.brgemm.library import Unavailable, library, multiplies_bf16

STEP = 32  # what sequences, head widths and widths must be multiples of


def takes_attention(q_BSHA: Tensor) -> bool:
    return q_BSHA.shape[1] % STEP == 0 and q_BSHA.shape[3] % STEP == 0 and q_BSHA.numel() > 0


def takes_experts(width: int, expert_width: int) -> bool:
    return width % STEP == 0 and expert_width % STEP == 0


def takes_muon(rows: int, columns: int) -> bool:
    """Whether a matrix is one that a core's cache holds: what is larger torch multiplies as fast."""
    return rows % STEP == 0 and columns % STEP == 0 and rows * columns <= 1 << 21


def attention(q_BSHA: Tensor, k_BSHA: Tensor, v_BSHA: Tensor, arithmetic: str) -> tuple[Tensor, Tensor]:
    """(o_BSHA, lse fp32 (B, H, S), times sqrt(A))."""
    batch, length, heads, width = q_BSHA.shape
    o_BSHA, lse_BHS = torch.empty_like(q_BSHA), q_BSHA.new_empty((batch, heads, length), dtype=torch.float32)
    _call("attention_forward", arithmetic, batch, length, heads, width, q_BSHA, k_BSHA, v_BSHA, o_BSHA, lse_BHS)
    return o_BSHA, lse_BHS


def attention_backward(
    do_BSHA: Tensor, q_BSHA: Tensor, k_BSHA: Tensor, v_BSHA: Tensor, o_BSHA: Tensor, lse_BHS: Tensor, arithmetic: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    found = tuple(torch.empty_like(t) for t in (q_BSHA, k_BSHA, v_BSHA))
    tensors = (do_BSHA, q_BSHA, k_BSHA, v_BSHA, o_BSHA, lse_BHS)
    _call("attention_backward", arithmetic, *q_BSHA.shape, *tensors, *found)
    return found


def experts(
    x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, h_PG: Tensor, arithmetic: str
) -> Tensor:
    """Fills `h_PG`; returns y_TD, fp32. Weights are the masters, fp32."""
    y_TD = x_TD.new_empty(x_TD.shape, dtype=torch.float32)
    tensors = (x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK)
    _call("expert_mlp_forward", arithmetic, *_sizes(tensors), *tensors, h_PG, len(h_PG), y_TD)
    return y_TD


def experts_backward(
    dy_TD: Tensor, x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, h_PG: Tensor,
    arithmetic: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, both weights and the routing weights, all fp32, as `dy_TD` is."""
    tensors = (x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK)
    found = tuple(t.new_empty(t.shape, dtype=torch.float32) for t in (x_TD, w_up_EDG, w_down_EFD, weight_TK))
    _call("expert_mlp_backward", arithmetic, *_sizes(tensors), dy_TD, *tensors, h_PG, *found)
    return found


def muon(
    weights: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], rates: list[float], keeps: list[float],
    mu: float, coefficients: list[tuple[float, float, float]], dtype: torch.dtype,
) -> None:  # fmt: skip
    """One step of matrices (I, O) and stacks (N, I, O), fp32, of one I and O: weight <- keep * weight - rate * polar factor."""
    rows, columns = weights[0].shape[-2:]
    of, tables = [w.numel() // (rows * columns) for w in weights], []
    for tensors in (weights, gradients, momenta):
        assert all(t.is_contiguous() and t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        tables.append(torch.cat([t.data_ptr() + 4 * rows * columns * torch.arange(count) for t, count in zip(tensors, of)]))
    fp32 = dict(dtype=torch.float32)
    rate_N, keep_N = (torch.tensor(values, **fp32).repeat_interleave(torch.tensor(of)) for values in (rates, keeps))
    abc = torch.tensor(coefficients, **fp32)
    name = "native" if dtype == torch.bfloat16 else "full"
    _call("muon", name, len(rate_N), rows, columns, *tables, rate_N, keep_N, float(mu), len(coefficients), abc)


def _sizes(tensors: tuple[Tensor, ...]) -> tuple[int, ...]:
    x_TD, w_up_EDG, w_down_EFD, expert_TK, _ = tensors
    return (*expert_TK.shape, *w_down_EFD.shape[:1], x_TD.shape[1], w_down_EFD.shape[1], w_up_EDG.shape[2])


def _call(name: str, arithmetic: str, *arguments: Tensor | int | float) -> None:
    """
    Raises:
        Unavailable: the kernels cannot run here, or not in this arithmetic.
        OutOfMemoryError: there was no memory for what lies between the arguments.
    """
    assert all(t.is_contiguous() and t.device.type == "cpu" for t in arguments if isinstance(t, Tensor)), name
    kernel = getattr(library(), f"{name}_{arithmetic}")
    if arithmetic == "native" and not multiplies_bf16():
        raise Unavailable(f"{name} in 'native', but this processor has no products of bf16; use 'emulated'")
    kernel.restype = ctypes.c_bool
    if not kernel(*map(_argument, arguments)):
        raise torch.OutOfMemoryError(f"{name}: can't allocate memory")


def _argument(value: Tensor | int | float) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int64(value)
