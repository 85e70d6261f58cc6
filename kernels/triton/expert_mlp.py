"""Launches the kernels: what `kernels.moe` calls for `backend="triton"`."""

import torch
import triton
from torch import Tensor

from kernels.activation import Activation
from kernels.rounding import Arithmetic
from kernels.triton.backward import dh_kernel, weight_gradient_kernel
from kernels.triton.configuration import Configuration, configuration
from kernels.triton.forward import combine_kernel, rows_kernel, up_kernel
from kernels.triton.metadata import Routes, routes


def forward(
    x_TD: Tensor,
    w_up_EDG: Tensor,
    w_down_EFD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    activation: Activation,
    arithmetic: Arithmetic,
) -> tuple[Tensor, Tensor]:
    """Returns y_TD in fp32 and h_RG, the pre-activations in expert order, in the arithmetic's dtype.

    `x_TD` and the weights are operands already.
    """
    (experts, width, _), (_, expert_width, _), top_k = w_up_EDG.shape, w_down_EFD.shape, expert_TK.shape[1]
    c, rows = configuration(arithmetic.dtype), expert_TK.numel()
    where = routes(expert_TK, experts, c.rows)
    h_RG = x_TD.new_empty(rows, w_up_EDG.shape[2])
    a_RF, y_RD = x_TD.new_empty(rows, expert_width), x_TD.new_empty(rows, width)
    if rows:
        up_kernel[_grid(where, expert_width, c.columns)](
            x_TD.contiguous(), w_up_EDG.contiguous(), h_RG, a_RF, weight_TK.float().contiguous(),
            where.row_R, where.start_E1, where.tile_expert_I, where.tile_row_I,
            D=width, F=expert_width, K=top_k, GATED=activation.fan == 2, PRECISION="ieee",
            BLOCK_R=c.rows, BLOCK_N=c.columns, BLOCK_K=c.inner, **c.launch,
        )  # fmt: skip
        _rows(a_RF, w_down_EFD.contiguous(), y_RD, where, c)
    return _combine(y_RD, where.slot_TK, c), h_RG


def backward(
    dy_TD: Tensor,
    x_TD: Tensor,
    w_up_EDG: Tensor,
    w_down_EFD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    activation: Activation,
    arithmetic: Arithmetic,
    h_RG: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK, all fp32."""
    experts, expert_width, width = w_down_EFD.shape
    c, rows, top_k = configuration(arithmetic.dtype), expert_TK.numel(), expert_TK.shape[1]
    where = routes(expert_TK, experts, c.rows)
    dy_TD, x_TD, w_up_EDG, w_down_EFD = (t.contiguous() for t in (dy_TD, x_TD, w_up_EDG, w_down_EFD))
    dh_RG, a_RF = torch.empty_like(h_RG), h_RG.new_empty(rows, expert_width)
    dweight_RN = h_RG.new_empty(rows, triton.cdiv(expert_width, c.dh_columns), dtype=torch.float32)
    dx_RD = h_RG.new_empty(rows, width)
    if rows:
        dh_kernel[_grid(where, expert_width, c.dh_columns)](
            dy_TD, w_down_EFD, h_RG, dh_RG, a_RF, dweight_RN, weight_TK.float().contiguous(),
            where.row_R, where.start_E1, where.tile_expert_I, where.tile_row_I,
            D=width, F=expert_width, K=top_k, GATED=activation.fan == 2, PRECISION="ieee",
            BLOCK_R=c.rows, BLOCK_N=c.dh_columns, BLOCK_K=c.inner, **c.launch,
        )  # fmt: skip
        _rows(dh_RG, w_up_EDG.mT, dx_RD, where, c)
    dw_up_EDG = _weight_gradient(x_TD, dh_RG, where, experts, top_k, True, c)
    dw_down_EFD = _weight_gradient(a_RF, dy_TD, where, experts, top_k, False, c)
    dweight_R = dweight_RN[:, 0].clone()
    for n in range(1, dweight_RN.shape[1]):
        dweight_R += dweight_RN[:, n]
    dweight_TK = dweight_R.index_select(0, where.slot_TK.view(-1)).view(expert_TK.shape)
    return _combine(dx_RD, where.slot_TK, c), dw_up_EDG, dw_down_EFD, dweight_TK


def _grid(where: Routes, columns: int, block_columns: int) -> tuple[int]:
    return (where.tile_expert_I.numel() * triton.cdiv(columns, block_columns),)


def _rows(in_RI: Tensor, w_EIO: Tensor, out_RO: Tensor, where: Routes, c: Configuration) -> None:
    rows_kernel[_grid(where, out_RO.shape[1], c.columns)](
        in_RI, w_EIO, out_RO, where.start_E1, where.tile_expert_I, where.tile_row_I, *w_EIO.stride(),
        INNER=in_RI.shape[1], OUTER=out_RO.shape[1], PRECISION="ieee",
        BLOCK_R=c.rows, BLOCK_N=c.columns, BLOCK_K=c.inner, **c.launch,
    )  # fmt: skip


def _combine(rows_RD: Tensor, slot_TK: Tensor, c: Configuration) -> Tensor:
    tokens, top_k = slot_TK.shape
    out_TD = rows_RD.new_empty(tokens, rows_RD.shape[1], dtype=torch.float32)
    if tokens:
        grid = (triton.cdiv(tokens, c.combine_tokens) * triton.cdiv(rows_RD.shape[1], c.combine_columns),)
        combine_kernel[grid](
            rows_RD, slot_TK, out_TD, tokens, D=rows_RD.shape[1], K=top_k, BLOCK_T=c.combine_tokens, BLOCK_N=c.combine_columns
        )
    return out_TD


def _weight_gradient(
    left: Tensor, right: Tensor, where: Routes, experts: int, top_k: int, gather_left: bool, c: Configuration
) -> Tensor:
    inputs, outputs = left.shape[1], right.shape[1]
    dw_EIO = left.new_empty(experts, inputs, outputs, dtype=torch.float32)
    grid = (experts * triton.cdiv(inputs, c.rows) * triton.cdiv(outputs, c.columns),)
    weight_gradient_kernel[grid](
        left, right, dw_EIO, where.row_R, where.start_E1, INPUTS=inputs, OUTPUTS=outputs, K=top_k, GATHER_LEFT=gather_left,
        PRECISION="ieee", BLOCK_I=c.rows, BLOCK_O=c.columns, BLOCK_K=c.inner,
        num_warps=c.dw_warps, num_stages=c.stages,
    )  # fmt: skip
    return dw_EIO


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels (TRITON_INTERPRET=1), which needs no GPU."""
    return triton.knobs.runtime.interpret
