"""The flow of the expert MLP in Triton, and the launches of its kernels: what `kernels.moe` calls for `backend="triton"`.

One flow for bf16 and below. Below, activations and gradients are rounded to the arithmetic's dtype and then quantized, weights
are quantized from the masters, by token or by row as they lie: the operands of `kernels.reference_quantized`, bit for bit; the
order of sums differs. Forward and dX are batch-invariant row by row; in nvfp4 as long as the largest magnitude that a tensor
scale depends on is the same: of the tensor, or of the rows of an expert. No host synchronization, no float atomics."""

from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version

import torch
import triton
from torch import Tensor

from kernels import observe
from kernels.activation import Activation
from kernels.precision import Precision
from kernels.stages import stage
from kernels.triton import blockscaled
from kernels.triton.configuration import Configuration, Key, Tile, configuration
from kernels.triton.metadata import Order, Routes, order, routes
from kernels.triton.operands import CODES, Operand, Quantizer, of_bytes, slot_starts
from kernels.triton.products import combine_kernel, dh_kernel, rows_kernel, up_kernel
from kernels.triton.weight_gradients import weight_gradient_kernel

_DTYPES = {torch.bfloat16: triton.language.bfloat16, torch.float32: triton.language.float32}
# (x_TD, dh_RG, a_RF, dy_TD, found, c) -> dw_up_EDG, dw_down_EFD
Fold = Callable[[Tensor, Tensor, Tensor, Tensor, Order, Configuration], tuple[Tensor, Tensor]]


def forward(
    x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, activation: Activation,
    precision: Precision, key_4: Tensor | None, config: Configuration | None = None, native: bool | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Returns y_TD in fp32; h_RG, the pre-activations in expert order, in the arithmetic's dtype; and what an `Order` holds.

    `x_TD` and weights that are not quantized are operands already; those that are, the masters, in any dtype. `config`:
    instead of the table's, for tuning. `native`: instead of what the device says (`kernels.triton.blockscaled`).
    """
    make = quantizer(precision, key_4, x_TD.device, native)
    x_TD, w_up_EDG, w_down_EFD = (t.contiguous() for t in (x_TD, w_up_EDG, w_down_EFD))
    c = config or configured(x_TD, w_down_EFD.shape, expert_TK.shape[1], activation, make.kind)
    with stage("metadata"):
        found = order(expert_TK, w_up_EDG.shape[0])
        where = routes(found, c.rows)
    with stage("up"):
        x = make.rows_of_tokens(x_TD, "input", "input", where, expert_TK.shape[1])
        w_up = make.weights(w_up_EDG, "weight_up", 1)
        h_RG, a = up(make, x, w_up, weight_TK.float().contiguous(), where, activation, c)
    with stage("down"):
        y_RD = rows(make, a, make.weights(w_down_EFD, "weight_down", 1), where, c.rows, c.down)
    with stage("combine"):
        return combine(y_RD, where, c), h_RG, found.row_R, found.row_of_TK, found.start_E1


def backward(
    dy_TD: Tensor, x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor,
    activation: Activation, precision: Precision, key_4: Tensor | None, h_RG: Tensor, *of_order: Tensor,
    config: Configuration | None = None, native: bool | None = None, fold: Fold | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Returns dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK, all fp32. `h_RG` and what follows it: as `forward` returned them.
    `fold`: makes the weights' gradients, of factors that are not quantized."""
    make = quantizer(precision, key_4, x_TD.device, native)
    dy_TD, x_TD, w_up_EDG, w_down_EFD = (t.contiguous() for t in (dy_TD, x_TD, w_up_EDG, w_down_EFD))
    c = config or configured(x_TD, w_down_EFD.shape, expert_TK.shape[1], activation, make.kind)
    found = Order(*of_order)
    with stage("metadata"):
        where = routes(found, c.rows)
    with stage("dH"):
        dy = make.rows_of_tokens(dy_TD, "gradient", "gradient", where, expert_TK.shape[1])
        w_down = make.weights(w_down_EFD, "weight_down", 2)
        dh_RG, a_RF, dweight_RN = dh(make, dy, w_down, h_RG, weight_TK.float().contiguous(), where, activation, c)
        dweight_TK = _summed(dweight_RN).index_select(0, where.row_of_TK.view(-1)).view(expert_TK.shape)
    with stage("dW"):
        make_gradients = fold or partial(_weight_gradients, make)
        dw_up_EDG, dw_down_EFD = make_gradients(x_TD, dh_RG, a_RF, dy_TD, found, c)
    with stage("dX"):
        dh_rows = make.rows(dh_RG, "gradient", "hidden_gradient", where, where.row_R)
        dx_RD = rows(make, dh_rows, make.weights(w_up_EDG, "weight_up", 2), where, c.rows, c.dx)
    with stage("combine"):
        return combine(dx_RD, where, c), dw_up_EDG, dw_down_EFD, dweight_TK


def quantizer(precision: Precision, key_4: Tensor | None, device: torch.device, native: bool | None = None) -> Quantizer:
    """`native` as in `forward`."""
    dials = precision.quantization
    native = blockscaled.native(device, dials) if native is None else native
    return Quantizer(dials, precision.arithmetic.dtype, key_4, native)


def up(
    make: Quantizer, x: Operand, w: Operand, weight_TK: Tensor, where: Routes, activation: Activation, c: Configuration
) -> tuple[Tensor, Operand]:
    """h_RG = x[token] @ w_up[expert], and weight * act(h), which fp8 quantizes in the epilogue; while somebody listens
    afterwards, to the same codes."""
    count, width, g = where.row_R.numel(), x.inner, w.values.shape[1]
    expert_width = g // activation.fan
    h_RG = torch.empty(count, g, dtype=make.dtype, device=x.values.device)
    encode = make.format == "fp8" and make.quantizes("hidden") and not observe.listening()
    a_RF = h_RG.new_empty(count, expert_width, dtype=CODES) if encode else _by_row(make, count, expert_width, h_RG.device)
    scale = h_RG.new_empty(count, expert_width // make.block, dtype=torch.float32) if encode else None
    if count:
        up_kernel[_grid(where, expert_width, c.up)](
            *_pointers(x), *_pointers(w), h_RG, a_RF, a_RF if scale is None else scale, weight_TK,
            where.row_R, where.start_E1, where.tile_expert_I, where.tile_row_I,
            D=width, F=expert_width, K=weight_TK.shape[1], GATED=activation.fan == 2, BY_ROW=x.by_row,
            STORED=make.dials is not None, ENCODE=encode, CLIP=make.dials.clip if encode else 1.0,
            **_formats(make, x, w), BLOCK_R=c.rows, BLOCK_N=c.up.columns, **c.up.launch,
        )  # fmt: skip
    return h_RG, Operand(a_RF, scale) if encode else make.rows(a_RF, "hidden", "hidden", where)


def rows(make: Quantizer, of_rows: Operand, w: Operand, where: Routes, block_rows: int, tile: Tile) -> Tensor:
    """out[r] = rows[r] @ w[expert], in the arithmetic's dtype."""
    count, inner, outer = of_rows.values.shape[0], of_rows.inner, w.values.shape[1]
    out_RO = torch.empty(count, outer, dtype=make.dtype, device=w.values.device)
    if count:
        rows_kernel[_grid(where, outer, tile)](
            *_pointers(of_rows), *_pointers(w), out_RO, where.start_E1, where.tile_expert_I, where.tile_row_I,
            INNER=inner, OUTER=outer, **_formats(make, of_rows, w),
            BLOCK_R=block_rows, BLOCK_N=tile.columns, **tile.launch,
        )  # fmt: skip
    return out_RO


def dh(
    make: Quantizer, dy: Operand, w: Operand, h_RG: Tensor, weight_TK: Tensor, where: Routes, activation: Activation,
    c: Configuration,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dh_RG, a_RF = weight * act(h), and dweight_RN: each row's share of the routing weight's gradient per block of columns,
    zeros for dropped rows."""
    count, expert_width = h_RG.shape[0], w.values.shape[1]
    dh_RG, a_RF = _by_row(make, count, h_RG.shape[1], h_RG.device), h_RG.new_empty(count, expert_width)
    dweight_RN = h_RG.new_zeros(count, triton.cdiv(expert_width, c.dh.columns), dtype=torch.float32)
    if count:
        dh_kernel[_grid(where, expert_width, c.dh)](
            *_pointers(dy), *_pointers(w), h_RG, dh_RG, a_RF, dweight_RN, weight_TK,
            where.row_R, where.start_E1, where.tile_expert_I, where.tile_row_I,
            D=dy.inner, F=expert_width, K=weight_TK.shape[1], GATED=activation.fan == 2, BY_ROW=dy.by_row,
            STORED=make.dials is not None, **_formats(make, dy, w), BLOCK_R=c.rows, BLOCK_N=c.dh.columns, **c.dh.launch,
        )  # fmt: skip
    return dh_RG, a_RF, dweight_RN


def combine(rows_RD: Tensor, where: Routes, c: Configuration) -> Tensor:
    """out_t = sum over k, in the order of k, of its rows, without dropped ones; fp32."""
    (tokens, top_k), width = where.row_of_TK.shape, rows_RD.shape[1]
    out_TD = rows_RD.new_empty(tokens, width, dtype=torch.float32)
    if tokens:
        combine_kernel[(triton.cdiv(tokens, c.combine_tokens) * triton.cdiv(width, c.combine_columns),)](
            rows_RD, where.row_of_TK, where.start_E1, out_TD, tokens, D=width, K=top_k,
            BLOCK_T=c.combine_tokens, BLOCK_N=c.combine_columns,
        )  # fmt: skip
    return out_TD


def weight_gradient(
    left: Operand, right: Operand, row_R: Tensor, start_E1: Tensor, top_k: int, gather_left: bool, block_rows: int, tile: Tile,
    format: str = "", block: int = 1, dtype: torch.dtype = torch.bfloat16,
) -> Tensor:  # fmt: skip
    """dw[expert] = left^T @ right, fp32: plain, one of the two by token, over the expert's rows; or quantized to `format`, over
    its slots. `dtype`: of what is multiplied in MX."""
    (inputs, outputs), experts = (t.values.shape[0 if t.by_column else 1] for t in (left, right)), start_E1.numel() - 1
    dw_EIO = left.values.new_empty(experts, inputs, outputs, dtype=torch.float32)
    scales = left.tensor_scale
    weight_gradient_kernel[(experts * triton.cdiv(inputs, block_rows) * triton.cdiv(outputs, tile.columns),)](
        *_pointers(left), *_pointers(right), dw_EIO, row_R, start_E1, left.inner if left.by_column else 0,
        INPUTS=inputs, OUTPUTS=outputs, K=top_k, GATHER_LEFT=gather_left, FORMAT=format, DTYPE=_multiplied(format, dtype),
        B=block, NATIVE=left.by_column, BY_EXPERT=scales is not None and scales.ndim == 1, BLOCK_I=block_rows,
        BLOCK_O=tile.columns, **tile.launch | ({"BLOCK_K": block} if format == "fp8" else {}),
    )  # fmt: skip
    return dw_EIO


def _weight_gradients(
    make: Quantizer, x_TD: Tensor, dh_RG: Tensor, a_RF: Tensor, dy_TD: Tensor, found: Order, c: Configuration
) -> tuple[Tensor, Tensor]:
    """dw_up_EDG, dw_down_EFD: in the arithmetic's dtype, or both factors quantized in blocks of rows of an expert."""
    top_k = found.row_of_TK.shape[1]
    if not make.quantizes("weight_gradient"):
        x, dh, a, dy = (Operand(t) for t in (x_TD, dh_RG, a_RF, dy_TD))
        place, format = (found.row_R, found.start_E1), ()
    else:
        blocks = routes(found, make.block)
        x = make.slots(x_TD, blocks, top_k, True, "wgrad_input")
        dh = make.slots(dh_RG, blocks, top_k, False, "wgrad_hidden_gradient")
        a = make.slots(a_RF, blocks, top_k, False, "wgrad_hidden")
        dy = make.slots(dy_TD, blocks, top_k, True, "wgrad_gradient")
        place, format = (blocks.row_R, slot_starts(blocks, make.block)), (make.format, make.block, make.dtype)
    dw_up_EDG = weight_gradient(x, dh, *place, top_k, True, c.dw_rows, c.dw_up, *format)
    return dw_up_EDG, weight_gradient(a, dy, *place, top_k, False, c.dw_rows, c.dw_down, *format)


def _by_row(make: Quantizer, count: int, width: int, device: torch.device) -> Tensor:
    """What a product writes and a quantizer reads next: dropped rows, which no product writes, must be zeros where a figure of
    the whole tensor is taken."""
    whole = make.format == "nvfp4" or observe.listening()
    return (torch.zeros if whole else torch.empty)(count, width, dtype=make.dtype, device=device)


def _pointers(operand: Operand) -> tuple[Tensor, Tensor, Tensor]:
    """Values, scale, tensor scale; in place of what an operand has not, its values, which the kernel does not read as that."""
    values = operand.values
    return tuple(values if t is None else of_bytes(t) for t in (values, operand.scale, operand.tensor_scale))


def _formats(make: Quantizer, of_rows: Operand, w: Operand) -> dict[str, object]:
    """What a product kernel is told about its operands; DTYPE is what the tensor cores multiply."""
    either, both = of_rows.quantized or w.quantized, of_rows.quantized and w.quantized
    strides = dict(zip(("STRIDE_E", "STRIDE_O", "STRIDE_I"), w.values.stride()))
    return strides | {
        "ROWS": of_rows.quantized, "WEIGHTS": w.quantized, "FORMAT": make.format if either else "", "B": make.block,
        "WIDE": w.wide, "DTYPE": _multiplied(make.format if both else "", make.dtype), "NATIVE": make.native,
        "BY_EXPERT": make.by_expert,
    }  # fmt: skip


def _multiplied(format: str, dtype: torch.dtype) -> triton.language.dtype:
    """What the tensor cores multiply where both factors are of `format`; MX's decoded values are exact in the arithmetic's
    `dtype`."""
    return {"fp8": triton.language.float8e4nv, "nvfp4": triton.language.float16}.get(format, _DTYPES[dtype])


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels (TRITON_INTERPRET=1), which needs no GPU.

    Raises:
        RuntimeError: by these versions of Triton and numpy it cannot.
    """
    if not triton.knobs.runtime.interpret:
        return False
    found = (triton.__version__, version("numpy"))
    (of_triton, of_numpy) = (tuple(int(part) for part in it.split(".")[:2]) for it in found)
    if of_triton < (3, 7) and of_numpy >= (2, 4):  # loops over loaded bounds
        raise RuntimeError(
            f"Triton {found[0]}'s interpreter fails with numpy {found[1]} (only 0-dimensional arrays can be converted): "
            "use numpy below 2.4, or triton 3.7"
        )
    return True


def key(
    gpu: tuple[str, str], dtype: torch.dtype, w_down_shape: tuple[int, int, int], top_k: int, gated: bool, format: str = ""
) -> Key:
    """The table's key; `gpu` is its name and capability ("sm_90"), two empty ones in the interpreter; `format` of a
    quantization, or ""."""
    experts, expert_width, width = w_down_shape
    return Key.of(*gpu, dtype, width, expert_width, experts, top_k, gated, format)


def configured(
    x_TD: Tensor, w_down_shape: tuple[int, int, int], top_k: int, activation: Activation, format: str
) -> Configuration:
    gpu = gpu_of(x_TD.device) if x_TD.is_cuda else ("", "")
    return configuration(key(gpu, x_TD.dtype, tuple(w_down_shape), top_k, activation.fan == 2, format), x_TD.dtype)


@cache
def gpu_of(device: torch.device | None = None) -> tuple[str, str]:
    """Name and compute capability ("sm_90") of a GPU, the current one where none is named."""
    return torch.cuda.get_device_name(device), "sm_" + "".join(map(str, torch.cuda.get_device_capability(device)))


def _grid(where: Routes, columns: int, tile: Tile) -> tuple[int]:
    return (where.tile_expert_I.numel() * triton.cdiv(columns, tile.columns),)


def _summed(dweight_RN: Tensor) -> Tensor:
    """In the order of the blocks."""
    dweight_R = dweight_RN[:, 0].clone()
    for n in range(1, dweight_RN.shape[1]):
        dweight_R += dweight_RN[:, n]
    return dweight_R
