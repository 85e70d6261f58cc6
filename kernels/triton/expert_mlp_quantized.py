"""The expert MLP below bf16 in Triton: the flow of `kernels.triton.expert_mlp` over quantized operands.

Activations and gradients are rounded to the arithmetic's dtype and then quantized, weights are quantized from fp32, by token
or by row as they lie: the operands of `kernels.reference_quantized`, bit for bit; the order of sums differs. Forward and dX
are batch-invariant row by row; in nvfp4 as long as the largest magnitude that a tensor scale depends on is the same: of the
tensor, or of the rows of an expert. No host synchronization, no float atomics."""

import torch
import triton
from torch import Tensor

from kernels import observe
from kernels.activation import Activation
from kernels.precision import Precision
from kernels.stages import stage
from kernels.triton.configuration import Configuration, Tile
from kernels.triton.expert_mlp import combine, configured, grid, summed, weight_gradient
from kernels.triton.metadata import Routes, routes
from kernels.triton.operands import CODES, Operand, Quantizer, slot_starts
from kernels.triton.products_quantized import dh_quantized_kernel, rows_quantized_kernel, up_quantized_kernel
from kernels.triton.slots_product import slots_product_kernel, tiles_product_kernel

_DTYPES = {torch.bfloat16: triton.language.bfloat16, torch.float32: triton.language.float32}


def forward(
    x_TD: Tensor,
    w_up_EDG: Tensor,
    w_down_EFD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    activation: Activation,
    precision: Precision,
    key_4: Tensor,
    config: Configuration | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns y_TD in fp32 and h_RG as `expert_mlp.forward`. `x_TD` is in the arithmetic's dtype, the
    weights are the masters, in any dtype."""
    make = Quantizer(precision.quantization, precision.arithmetic.dtype, key_4)
    x_TD, w_up_EDG, w_down_EFD = (t.contiguous() for t in (x_TD, w_up_EDG, w_down_EFD))
    c = config or configured(x_TD, w_down_EFD, expert_TK, activation, make.dials.format)
    with stage("metadata"):
        where = routes(expert_TK, w_up_EDG.shape[0], c.rows)
    with stage("up"):
        x = make.rows_of_tokens(x_TD, "input", "input", where, expert_TK.shape[1])
        w_up = make.weights(w_up_EDG, "weight_up", 1)
        h_RG, a = up(make, x, w_up, weight_TK.float().contiguous(), where, activation, c)
    with stage("down"):
        y_RD = rows(make, a, make.weights(w_down_EFD, "weight_down", 1), where, c.rows, c.down)
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
    precision: Precision,
    key_4: Tensor,
    h_RG: Tensor,
    config: Configuration | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK, all fp32."""
    make = Quantizer(precision.quantization, precision.arithmetic.dtype, key_4)
    dy_TD, x_TD, w_up_EDG, w_down_EFD = (t.contiguous() for t in (dy_TD, x_TD, w_up_EDG, w_down_EFD))
    c = config or configured(x_TD, w_down_EFD, expert_TK, activation, make.dials.format)
    with stage("metadata"):
        where = routes(expert_TK, w_up_EDG.shape[0], c.rows)
    with stage("dH"):
        dy = make.rows_of_tokens(dy_TD, "gradient", "gradient", where, expert_TK.shape[1])
        w_down = make.weights(w_down_EFD, "weight_down", 2)
        dh_RG, a_RF, dweight_RN = dh(make, dy, w_down, h_RG, weight_TK.float().contiguous(), where, activation, c)
        dweight_TK = summed(dweight_RN).index_select(0, where.slot_TK.view(-1)).view(expert_TK.shape)
    with stage("dW"):
        dw_up_EDG, dw_down_EFD = weight_gradients(make, x_TD, dh_RG, a_RF, dy_TD, expert_TK, w_up_EDG.shape[0], where, c)
    with stage("dX"):
        dh_rows = make.rows(dh_RG, "gradient", "hidden_gradient", where, where.row_R)
        dx_RD = rows(make, dh_rows, make.weights(w_up_EDG, "weight_up", 2), where, c.rows, c.dx)
    with stage("combine"):
        return combine(dx_RD, where, c), dw_up_EDG, dw_down_EFD, dweight_TK


def up(
    make: Quantizer, x: Operand, w: Operand, weight_TK: Tensor, where: Routes, activation: Activation, c: Configuration
) -> tuple[Tensor, Operand]:
    """h_RG and weight * act(h), which fp8 quantizes in the epilogue; while somebody listens afterwards, to the same codes."""
    count, width, g = where.row_R.numel(), x.values.shape[1], w.values.shape[1]
    expert_width, block = g // activation.fan, make.dials.block
    h_RG = torch.empty(count, g, dtype=make.dtype, device=x.values.device)
    encode = make.dials.format == "fp8" and make.dials.quantizes("hidden") and not observe.listening()
    a_RF = h_RG.new_empty(count, expert_width, dtype=CODES) if encode else _by_row(make, count, expert_width, h_RG.device)
    scale = h_RG.new_empty(count, expert_width // block, dtype=torch.float32) if encode else None
    if count:
        up_quantized_kernel[grid(where, expert_width, c.up.columns)](
            *_pointers(x), *_pointers(w), h_RG, a_RF, a_RF if scale is None else scale, weight_TK,
            where.row_R, where.start_E1, where.tile_expert_I, where.tile_row_I, *w.values.stride(),
            D=width, F=expert_width, K=weight_TK.shape[1], GATED=activation.fan == 2, ENCODE=encode, CLIP=make.dials.clip,
            BY_ROW=x.by_row, **_formats(make, x, w), BLOCK_R=c.rows, BLOCK_N=c.up.columns, **c.up.launch,
        )  # fmt: skip
    return h_RG, Operand(a_RF, scale) if encode else make.rows(a_RF, "hidden", "hidden", where)


def rows(make: Quantizer, of_rows: Operand, w: Operand, where: Routes, block_rows: int, tile: Tile) -> Tensor:
    """out[r] = rows[r] @ w[expert], in the arithmetic's dtype."""
    (count, inner), outer = of_rows.values.shape, w.values.shape[1]
    out_RO = torch.empty(count, outer, dtype=make.dtype, device=w.values.device)
    if count:
        rows_quantized_kernel[grid(where, outer, tile.columns)](
            *_pointers(of_rows), *_pointers(w), out_RO, where.start_E1, where.tile_expert_I, where.tile_row_I,
            *w.values.stride(), INNER=inner, OUTER=outer, **_formats(make, of_rows, w),
            BLOCK_R=block_rows, BLOCK_N=tile.columns, **tile.launch,
        )  # fmt: skip
    return out_RO


def dh(
    make: Quantizer, dy: Operand, w: Operand, h_RG: Tensor, weight_TK: Tensor, where: Routes, activation: Activation,
    c: Configuration,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dh_RG, a_RF and dweight_RN as `expert_mlp.dh`."""
    count, expert_width = h_RG.shape[0], w.values.shape[1]
    dh_RG, a_RF = _by_row(make, count, h_RG.shape[1], h_RG.device), h_RG.new_empty(count, expert_width)
    dweight_RN = h_RG.new_zeros(count, triton.cdiv(expert_width, c.dh.columns), dtype=torch.float32)
    if count:
        dh_quantized_kernel[grid(where, expert_width, c.dh.columns)](
            *_pointers(dy), *_pointers(w), h_RG, dh_RG, a_RF, dweight_RN, weight_TK,
            where.row_R, where.start_E1, where.tile_expert_I, where.tile_row_I, *w.values.stride(),
            D=dy.values.shape[1], F=expert_width, K=weight_TK.shape[1], GATED=activation.fan == 2,
            BY_ROW=dy.by_row, **_formats(make, dy, w), BLOCK_R=c.rows, BLOCK_N=c.dh.columns, **c.dh.launch,
        )  # fmt: skip
    return dh_RG, a_RF, dweight_RN


def _by_row(make: Quantizer, count: int, width: int, device: torch.device) -> Tensor:
    """What a product writes and a quantizer reads next: dropped rows, which no product writes, must be zeros where a figure of
    the whole tensor is taken."""
    whole = make.dials.format == "nvfp4" or observe.listening()
    return (torch.zeros if whole else torch.empty)(count, width, dtype=make.dtype, device=device)


def weight_gradients(
    make: Quantizer, x_TD: Tensor, dh_RG: Tensor, a_RF: Tensor, dy_TD: Tensor, expert_TK: Tensor, experts: int, where: Routes,
    c: Configuration,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """dw_up_EDG, dw_down_EFD: in the arithmetic's dtype, or both factors quantized in blocks of rows of an expert."""
    top_k = expert_TK.shape[1]
    if not make.dials.quantizes("weight_gradient"):
        dw_up_EDG = weight_gradient(x_TD, dh_RG, where, experts, top_k, True, c.dw_rows, c.dw_up)
        return dw_up_EDG, weight_gradient(a_RF, dy_TD, where, experts, top_k, False, c.dw_rows, c.dw_down)
    blocks = routes(expert_TK, experts, make.dials.block)
    slot_E1 = slot_starts(blocks, make.dials.block)
    sides = (
        (
            make.slots(x_TD, blocks, top_k, True, "wgrad_input"),
            make.slots(dh_RG, blocks, top_k, False, "wgrad_hidden_gradient"),
            c.dw_up,
        ),
        (
            make.slots(a_RF, blocks, top_k, False, "wgrad_hidden"),
            make.slots(dy_TD, blocks, top_k, True, "wgrad_gradient"),
            c.dw_down,
        ),
    )
    dw_up_EDG, dw_down_EFD = (_slots_product(make, left, right, slot_E1, c.dw_rows, tile) for left, right, tile in sides)
    return dw_up_EDG, dw_down_EFD


def _slots_product(make: Quantizer, left: Operand, right: Operand, slot_E1: Tensor, block_rows: int, tile: Tile) -> Tensor:
    inputs, outputs, experts = left.values.shape[1], right.values.shape[1], slot_E1.numel() - 1
    dw_EIO = left.values.new_empty(experts, inputs, outputs, dtype=torch.float32)
    place = (experts * triton.cdiv(inputs, block_rows) * triton.cdiv(outputs, tile.columns),)
    if make.dials.format == "fp8":
        tiles_product_kernel[place](
            left.values, left.scale, right.values, right.scale, dw_EIO, slot_E1 // make.dials.block, INPUTS=inputs,
            OUTPUTS=outputs, BLOCK_I=block_rows, BLOCK_O=tile.columns, BLOCK_S=make.dials.block,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        return dw_EIO
    slots_product_kernel[place](
        *_pointers(left), *_pointers(right), dw_EIO, slot_E1, INPUTS=inputs, OUTPUTS=outputs,
        BY_EXPERT=make.dials.by_expert, BLOCK_I=block_rows, BLOCK_O=tile.columns, **tile.launch,
    )  # fmt: skip
    return dw_EIO


def _pointers(operand: Operand) -> tuple[Tensor, Tensor, Tensor]:
    """Values, scale, tensor scale; in place of what an operand has not, its values, which the kernel does not read as that."""
    values = operand.values
    return tuple(values if t is None else t for t in (values, operand.scale, operand.tensor_scale))


def _formats(make: Quantizer, of_rows: Operand, w: Operand) -> dict[str, object]:
    """What a product kernel is told about its operands; DTYPE is what the tensor cores multiply."""
    fp8, both = make.dials.format == "fp8", of_rows.quantized and w.quantized
    exact = triton.language.float8e4nv if fp8 else triton.language.float16
    dtype = exact if both else _DTYPES[make.dtype]
    either = of_rows.quantized or w.quantized
    return {
        "ROWS": of_rows.quantized, "WEIGHTS": w.quantized, "FP8": fp8 and either, "DTYPE": dtype, "B": make.dials.block,
        "WIDE": w.wide, "BY_EXPERT": make.dials.by_expert,
    }  # fmt: skip
