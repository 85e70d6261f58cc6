"""Launches the kernels: what `kernels.moe` calls for `backend="triton"`."""

from functools import cache

import torch
import triton
from torch import Tensor

from kernels.activation import Activation
from kernels.precision import Arithmetic
from kernels.stages import stage
from kernels.triton.backward import dh_kernel, weight_gradient_kernel
from kernels.triton.configuration import Configuration, Key, Tile, configuration
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
    config: Configuration | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns y_TD in fp32 and h_RG, the pre-activations in expert order, in the arithmetic's dtype.

    `x_TD` and the weights are operands already. `config`: instead of the table's, for tuning.
    """
    x_TD, w_up_EDG, w_down_EFD = (t.contiguous() for t in (x_TD, w_up_EDG, w_down_EFD))
    c = config or configured(x_TD, w_down_EFD, expert_TK, activation)
    with stage("metadata"):
        where = routes(expert_TK, w_up_EDG.shape[0], c.rows)
    with stage("up"):
        h_RG, a_RF = up(x_TD, w_up_EDG, weight_TK.float().contiguous(), where, activation, c)
    with stage("down"):
        y_RD = rows(a_RF, w_down_EFD, where, c.rows, c.down)
    with stage("combine"):
        return combine(y_RD, where, c), h_RG


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
    config: Configuration | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK, all fp32."""
    dy_TD, x_TD, w_up_EDG, w_down_EFD = (t.contiguous() for t in (dy_TD, x_TD, w_up_EDG, w_down_EFD))
    c = config or configured(x_TD, w_down_EFD, expert_TK, activation)
    experts, top_k = w_up_EDG.shape[0], expert_TK.shape[1]
    with stage("metadata"):
        where = routes(expert_TK, experts, c.rows)
    with stage("dH"):
        dh_RG, a_RF, dweight_RN = dh(dy_TD, w_down_EFD, h_RG, weight_TK.float().contiguous(), where, activation, c)
        dweight_TK = summed(dweight_RN).index_select(0, where.slot_TK.view(-1)).view(expert_TK.shape)
    with stage("dW"):
        dw_up_EDG = weight_gradient(x_TD, dh_RG, where, experts, top_k, True, c.dw_rows, c.dw_up)
        dw_down_EFD = weight_gradient(a_RF, dy_TD, where, experts, top_k, False, c.dw_rows, c.dw_down)
    with stage("dX"):
        dx_RD = rows(dh_RG, w_up_EDG.mT, where, c.rows, c.dx)
    with stage("combine"):
        return combine(dx_RD, where, c), dw_up_EDG, dw_down_EFD, dweight_TK


def up(
    x_TD: Tensor, w_up_EDG: Tensor, weight_TK: Tensor, where: Routes, activation: Activation, c: Configuration
) -> tuple[Tensor, Tensor]:
    """h_RG = x[token] @ w_up[expert], and a_RF = weight * act(h)."""
    count, width, expert_width = where.row_R.numel(), x_TD.shape[1], w_up_EDG.shape[2] // activation.fan
    h_RG, a_RF = x_TD.new_empty(count, w_up_EDG.shape[2]), x_TD.new_empty(count, expert_width)
    if count:
        up_kernel[grid(where, expert_width, c.up.columns)](
            x_TD, w_up_EDG, h_RG, a_RF, weight_TK, where.row_R, where.start_E1, where.tile_expert_I, where.tile_row_I,
            D=width, F=expert_width, K=weight_TK.shape[1], GATED=activation.fan == 2, PRECISION="ieee",
            BLOCK_R=c.rows, BLOCK_N=c.up.columns, **c.up.launch,
        )  # fmt: skip
    return h_RG, a_RF


def rows(in_RI: Tensor, w_EIO: Tensor, where: Routes, block_rows: int, tile: Tile) -> Tensor:
    """out[r] = in[r] @ w[expert]; w may be a transposed view."""
    out_RO = in_RI.new_empty(in_RI.shape[0], w_EIO.shape[2])
    if in_RI.shape[0]:
        rows_kernel[grid(where, out_RO.shape[1], tile.columns)](
            in_RI, w_EIO, out_RO, where.start_E1, where.tile_expert_I, where.tile_row_I, *w_EIO.stride(),
            INNER=in_RI.shape[1], OUTER=out_RO.shape[1], PRECISION="ieee",
            BLOCK_R=block_rows, BLOCK_N=tile.columns, **tile.launch,
        )  # fmt: skip
    return out_RO


def combine(rows_RD: Tensor, where: Routes, c: Configuration) -> Tensor:
    """out_t = sum over k, in the order of k, of rows[slot_tk], without dropped rows; fp32."""
    tokens, top_k = where.slot_TK.shape
    out_TD = rows_RD.new_empty(tokens, rows_RD.shape[1], dtype=torch.float32)
    if tokens:
        grid = (triton.cdiv(tokens, c.combine_tokens) * triton.cdiv(rows_RD.shape[1], c.combine_columns),)
        combine_kernel[grid](
            rows_RD,
            where.slot_TK,
            where.start_E1,
            out_TD,
            tokens,
            D=rows_RD.shape[1],
            K=top_k,
            BLOCK_T=c.combine_tokens,
            BLOCK_N=c.combine_columns,
        )
    return out_TD


def dh(
    dy_TD: Tensor, w_down_EFD: Tensor, h_RG: Tensor, weight_TK: Tensor, where: Routes, activation: Activation, c: Configuration
) -> tuple[Tensor, Tensor, Tensor]:
    """dh_RG, a_RF = weight * act(h), and dweight_RN: each row's share of the routing weight's gradient per block of columns,
    zeros for dropped rows."""
    count, (_, expert_width, width) = h_RG.shape[0], w_down_EFD.shape
    dh_RG, a_RF = torch.empty_like(h_RG), h_RG.new_empty(count, expert_width)
    dweight_RN = h_RG.new_zeros(count, triton.cdiv(expert_width, c.dh.columns), dtype=torch.float32)
    if count:
        dh_kernel[grid(where, expert_width, c.dh.columns)](
            dy_TD, w_down_EFD, h_RG, dh_RG, a_RF, dweight_RN, weight_TK,
            where.row_R, where.start_E1, where.tile_expert_I, where.tile_row_I,
            D=width, F=expert_width, K=weight_TK.shape[1], GATED=activation.fan == 2, PRECISION="ieee",
            BLOCK_R=c.rows, BLOCK_N=c.dh.columns, **c.dh.launch,
        )  # fmt: skip
    return dh_RG, a_RF, dweight_RN


def weight_gradient(
    left: Tensor, right: Tensor, where: Routes, experts: int, top_k: int, gather_left: bool, block_rows: int, tile: Tile
) -> Tensor:
    """dw[expert] = left^T @ right over the expert's rows; one of the two lies by token."""
    inputs, outputs = left.shape[1], right.shape[1]
    dw_EIO = left.new_empty(experts, inputs, outputs, dtype=torch.float32)
    grid = (experts * triton.cdiv(inputs, block_rows) * triton.cdiv(outputs, tile.columns),)
    weight_gradient_kernel[grid](
        left, right, dw_EIO, where.row_R, where.start_E1, INPUTS=inputs, OUTPUTS=outputs, K=top_k, GATHER_LEFT=gather_left,
        PRECISION="ieee", BLOCK_I=block_rows, BLOCK_O=tile.columns, **tile.launch,
    )  # fmt: skip
    return dw_EIO


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels (TRITON_INTERPRET=1), which needs no GPU."""
    return triton.knobs.runtime.interpret


def key(device: str, dtype: torch.dtype, w_down_shape: tuple[int, int, int], top_k: int, gated: bool, format: str = "") -> Key:
    """The table's key; `device` is the GPU's name, or "" in the interpreter; `format` of a quantization, or ""."""
    experts, expert_width, width = w_down_shape
    return Key.of(device, dtype, width, expert_width, experts, top_k, gated, format)


def configured(x_TD: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, activation: Activation, format: str = "") -> Configuration:
    device = _device_name(x_TD.device) if x_TD.is_cuda else ""
    shape = tuple(w_down_EFD.shape)
    return configuration(key(device, x_TD.dtype, shape, expert_TK.shape[1], activation.fan == 2, format), x_TD.dtype)


@cache
def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


def grid(where: Routes, columns: int, block_columns: int) -> tuple[int]:
    return (where.tile_expert_I.numel() * triton.cdiv(columns, block_columns),)


def summed(dweight_RN: Tensor) -> Tensor:
    """In the order of the blocks."""
    dweight_R = dweight_RN[:, 0].clone()
    for n in range(1, dweight_RN.shape[1]):
        dweight_R += dweight_RN[:, n]
    return dweight_R
