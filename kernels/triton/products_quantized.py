"""The products below bf16, over the tiles of `kernels.triton.metadata`: operands are decoded as they are loaded.

Letters as in `kernels.triton.forward`; I inner and O outer dimension, B a quantizer's block along I.

- fp8, both factors: codes are multiplied as they are, a block of 128 at a time, and every block's sums are scaled and
  added in fp32 ("promotion", arXiv 2412.19437, section 3.3.2).
- nvfp4, both factors: code * block scale is exact in fp16 (at most 6 significant bits, 2^-10 to 2688); the tensor scales
  divide the sums.
- one factor left in bf16: the other's codes become bf16 exactly, the rest is the same."""

import triton
import triton.language as tl

from kernels.triton.backward import dh_epilogue
from kernels.triton.forward import activate
from kernels.triton.numbers import magnitude_bits, quantized


@triton.jit
def _tile(
    values, scale, value_O, scale_O, live_O, at, inner_stride,
    INNER: tl.constexpr, QUANTIZED: tl.constexpr, FP8: tl.constexpr, DTYPE: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """(BLOCK_O, BLOCK_K) of an operand in DTYPE, from inner element `at` on; fp8's scales stay outside."""
    k = at + tl.arange(0, BLOCK_K)
    live = live_O[:, None] if INNER % BLOCK_K == 0 else live_O[:, None] & (k < INNER)[None, :]
    found = tl.load(values + value_O[:, None] + k[None, :] * inner_stride, mask=live, other=0.0)
    if FP8 or not QUANTIZED:
        return found.to(DTYPE)
    count: tl.constexpr = BLOCK_K // 16
    n = at // 16 + tl.arange(0, count)
    live = live_O[:, None] if INNER % BLOCK_K == 0 else live_O[:, None] & (n < INNER // 16)[None, :]
    scale_ON = tl.load(scale + scale_O[:, None] + n[None, :], mask=live, other=0.0)
    spread = tl.reshape(tl.broadcast_to(scale_ON[:, :, None], (BLOCK_O, count, 16)), (BLOCK_O, BLOCK_K))
    return exact(found, spread, DTYPE)


@triton.jit
def exact(code, scale, DTYPE: tl.constexpr):
    """Their product, which DTYPE holds exactly."""
    if DTYPE == tl.float16:
        return code.to(tl.float16) * scale.to(tl.float16)
    return (code.to(tl.float32) * scale.to(tl.float32)).to(DTYPE)


@triton.jit
def _product(
    rows, rows_scale, value_R, scale_R, live_R, w, w_scale, value_N, scale_N, live_N, acc_RN, at, inner_stride,
    INNER: tl.constexpr, ROWS: tl.constexpr, WEIGHTS: tl.constexpr, FP8: tl.constexpr, DTYPE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Adds to `acc_RN` what BLOCK_K inner elements contribute, from `at` on."""
    x = _tile(rows, rows_scale, value_R, scale_R, live_R, at, 1, INNER, ROWS, FP8, DTYPE, BLOCK_R, BLOCK_K)
    w = _tile(w, w_scale, value_N, scale_N, live_N, at, inner_stride, INNER, WEIGHTS, FP8, DTYPE, BLOCK_N, BLOCK_K)
    if not FP8:
        return tl.dot(x, tl.trans(w), acc_RN, input_precision="ieee")
    part_RN = tl.dot(x, tl.trans(w), input_precision="ieee")
    n = at // BLOCK_K
    if ROWS:
        part_RN *= tl.load(rows_scale + scale_R + n, mask=live_R, other=0.0)[:, None]
    if WEIGHTS:
        part_RN *= tl.load(w_scale + scale_N + n, mask=live_N, other=0.0)[None, :]
    return acc_RN + part_RN


@triton.jit
def factor(rows_whole, w_whole, expert, ROWS: tl.constexpr, WEIGHTS: tl.constexpr, FP8: tl.constexpr, BY_EXPERT: tl.constexpr):
    """What the tensor scales, one of each operand or of every expert, make of an expert's sums."""
    found = 1.0
    if not FP8:
        if ROWS:
            found *= tl.div_rn(1.0, tl.load(rows_whole + expert * BY_EXPERT))
        if WEIGHTS:
            found *= tl.div_rn(1.0, tl.load(w_whole + expert * BY_EXPERT))
    return found


@triton.jit
def up_quantized_kernel(
    x_TD, x_scale, x_whole, w_EGD, w_scale, w_whole, h_RG, a_RF, a_scale, weight_TK, row_R, start_E1, tile_expert_I, tile_row_I,
    expert_stride, outer_stride, inner_stride,
    D: tl.constexpr, F: tl.constexpr, K: tl.constexpr, GATED: tl.constexpr,
    ROWS: tl.constexpr, WEIGHTS: tl.constexpr, FP8: tl.constexpr, DTYPE: tl.constexpr, B: tl.constexpr, WIDE: tl.constexpr,
    BY_EXPERT: tl.constexpr, BY_ROW: tl.constexpr, ENCODE: tl.constexpr, CLIP: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """h = x[token] @ w_up[expert], or with BY_ROW x[row], stored in its dtype; a = weight * act(h) from h as stored, rounded to
    the same dtype, and with ENCODE quantized to fp8 in the epilogue: a tile holds whole blocks of 128."""
    columns: tl.constexpr = (F + BLOCK_N - 1) // BLOCK_N
    G: tl.constexpr = 2 * F if GATED else F
    tile = tl.program_id(0) // columns
    expert = tl.load(tile_expert_I + tile)
    if expert < 0:
        return
    first = tl.load(tile_row_I + tile)
    r = tl.arange(0, BLOCK_R)
    n = (tl.program_id(0) % columns) * BLOCK_N + tl.arange(0, BLOCK_N)
    live_R, live_N = r < tl.load(start_E1 + expert + 1) - first, n < F
    row = tl.load(row_R + first + r, mask=live_R, other=0)
    source = first + r if BY_ROW else row // K
    w, w_scale = w_EGD + expert * expert_stride, w_scale + expert * (G // WIDE) * (D // B)
    value_N, scale_N = n * outer_stride, n // WIDE * (D // B)
    first_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    second_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for at in range(0, D, BLOCK_K):
        first_RN = _product(
            x_TD, x_scale, source * D, source * (D // B), live_R,
            w, w_scale, value_N, scale_N, live_N, first_RN, at, inner_stride,
            D, ROWS, WEIGHTS, FP8, DTYPE, BLOCK_R, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        if GATED:
            second_RN = _product(
                x_TD, x_scale, source * D, source * (D // B), live_R, w + F * outer_stride, w_scale + F // WIDE * (D // B),
                value_N, scale_N, live_N, second_RN, at, inner_stride,
                D, ROWS, WEIGHTS, FP8, DTYPE, BLOCK_R, BLOCK_N, BLOCK_K,
            )  # fmt: skip
    whole = factor(x_whole, w_whole, expert, ROWS, WEIGHTS, FP8, BY_EXPERT)
    live_RN = live_R[:, None] & live_N[None, :]
    dtype: tl.constexpr = h_RG.dtype.element_ty
    out_RN = h_RG + first * G + r[:, None] * G + n[None, :]
    first_RN, second_RN = (first_RN * whole).to(dtype), (second_RN * whole).to(dtype)
    tl.store(out_RN, first_RN, mask=live_RN)
    if GATED:
        tl.store(out_RN + F, second_RN, mask=live_RN)
    weight = tl.load(weight_TK + row, mask=live_R, other=0.0)
    a_RN = (activate(first_RN.to(tl.float32), second_RN.to(tl.float32), GATED) * weight[:, None]).to(dtype)
    out_RN = a_RF + first * F + r[:, None] * F + n[None, :]
    if ENCODE:
        a_3 = tl.reshape(a_RN.to(tl.float32), (BLOCK_R, BLOCK_N // B, B))
        amax_3 = tl.max(magnitude_bits(a_3), axis=2).to(tl.float32, bitcast=True)[:, :, None]
        value_3, scale_3 = quantized(a_3, amax_3, 1.0, 0.0, True, CLIP, False)
        tl.store(out_RN, tl.reshape(value_3, (BLOCK_R, BLOCK_N)).to(tl.float8e4nv), mask=live_RN)
        m = (tl.program_id(0) % columns) * (BLOCK_N // B) + tl.arange(0, BLOCK_N // B)
        out_RM = a_scale + first * (F // B) + r[:, None] * (F // B) + m[None, :]
        tl.store(out_RM, tl.reshape(scale_3, (BLOCK_R, BLOCK_N // B)), mask=live_R[:, None] & (m < F // B)[None, :])
    else:
        tl.store(out_RN, a_RN, mask=live_RN)


@triton.jit
def rows_quantized_kernel(
    in_RI, in_scale, in_whole, w_EOI, w_scale, w_whole, out_RO, start_E1, tile_expert_I, tile_row_I,
    expert_stride, outer_stride, inner_stride, INNER: tl.constexpr, OUTER: tl.constexpr,
    ROWS: tl.constexpr, WEIGHTS: tl.constexpr, FP8: tl.constexpr, DTYPE: tl.constexpr, B: tl.constexpr, WIDE: tl.constexpr,
    BY_EXPERT: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out[r] = in[r] @ w[expert]^T: the down-projection, and dX's rows."""
    columns: tl.constexpr = (OUTER + BLOCK_N - 1) // BLOCK_N
    tile = tl.program_id(0) // columns
    expert = tl.load(tile_expert_I + tile)
    if expert < 0:
        return
    first = tl.load(tile_row_I + tile)
    r = tl.arange(0, BLOCK_R)
    n = (tl.program_id(0) % columns) * BLOCK_N + tl.arange(0, BLOCK_N)
    live_R, live_N = r < tl.load(start_E1 + expert + 1) - first, n < OUTER
    rows, rows_scale = in_RI + first * INNER, in_scale + first * (INNER // B)
    w, w_scale = w_EOI + expert * expert_stride, w_scale + expert * (OUTER // WIDE) * (INNER // B)
    acc_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for at in range(0, INNER, BLOCK_K):
        acc_RN = _product(
            rows, rows_scale, r * INNER, r * (INNER // B), live_R,
            w, w_scale, n * outer_stride, n // WIDE * (INNER // B), live_N, acc_RN, at, inner_stride,
            INNER, ROWS, WEIGHTS, FP8, DTYPE, BLOCK_R, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    out_RN = out_RO + first * OUTER + r[:, None] * OUTER + n[None, :]
    found_RN = acc_RN * factor(in_whole, w_whole, expert, ROWS, WEIGHTS, FP8, BY_EXPERT)
    tl.store(out_RN, found_RN.to(out_RO.dtype.element_ty), mask=live_R[:, None] & live_N[None, :])


@triton.jit
def dh_quantized_kernel(
    dy_TD, dy_scale, dy_whole, w_EFD, w_scale, w_whole, h_RG, dh_RG, a_RF, dweight_RN, weight_TK,
    row_R, start_E1, tile_expert_I, tile_row_I, expert_stride, outer_stride, inner_stride,
    D: tl.constexpr, F: tl.constexpr, K: tl.constexpr, GATED: tl.constexpr,
    ROWS: tl.constexpr, WEIGHTS: tl.constexpr, FP8: tl.constexpr, DTYPE: tl.constexpr, B: tl.constexpr, WIDE: tl.constexpr,
    BY_EXPERT: tl.constexpr, BY_ROW: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """da = dy[token] @ w_down[expert]^T, or with BY_ROW dy[row], rounded to h's dtype; writes what `dh_kernel` writes."""
    columns: tl.constexpr = (F + BLOCK_N - 1) // BLOCK_N
    tile, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    expert = tl.load(tile_expert_I + tile)
    if expert < 0:
        return
    first = tl.load(tile_row_I + tile)
    r = tl.arange(0, BLOCK_R)
    n = column * BLOCK_N + tl.arange(0, BLOCK_N)
    live_R, live_N = r < tl.load(start_E1 + expert + 1) - first, n < F
    row = tl.load(row_R + first + r, mask=live_R, other=0)
    source = first + r if BY_ROW else row // K
    w, w_scale = w_EFD + expert * expert_stride, w_scale + expert * (F // WIDE) * (D // B)
    da_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for at in range(0, D, BLOCK_K):
        da_RN = _product(
            dy_TD, dy_scale, source * D, source * (D // B), live_R,
            w, w_scale, n * outer_stride, n // WIDE * (D // B), live_N, da_RN, at, inner_stride,
            D, ROWS, WEIGHTS, FP8, DTYPE, BLOCK_R, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    whole = factor(dy_whole, w_whole, expert, ROWS, WEIGHTS, FP8, BY_EXPERT)
    da_RN = (da_RN * whole).to(h_RG.dtype.element_ty).to(tl.float32)
    dh_epilogue(da_RN, h_RG, dh_RG, a_RF, dweight_RN, weight_TK, row, first, r, n, column, live_R, live_N, F, columns, GATED)
