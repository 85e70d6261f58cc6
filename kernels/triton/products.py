"""The products over tiles of rows of one expert: the up-projection with gather and activation, the down-projection, dH with
everything that falls out of it; and the combine. One code for bf16 and for quantized operands, decoded as they are loaded.

Letters: T tokens, D width, F expert width, G pre-activation width (F, or 2F for SwiGLU), E experts, R rows in expert order, K
top-k; I inner and O outer dimension of a product, B a quantizer's block along I. A tile (`kernels.triton.metadata`) is BLOCK_R
rows of one expert; each program computes BLOCK_N columns of it. Row offsets are int64 (R*G may pass 2^31), held once a tile:
offsets within it are int32, which saves registers.

What is multiplied, ROWS and WEIGHTS saying which factors are codes:

- neither: both factors as they are.
- fp8, both: codes are multiplied as they are, a block of 128 at a time, and every block's sums are scaled and added in fp32
  ("promotion", arXiv 2412.19437, section 3.3.2).
- nvfp4, both: code * block scale is exact in fp16 (at most 6 significant bits, 2^-10 to 2688); the tensor scales divide the
  sums.
- mxfp8 and mxfp4, both: code * scale is exact in bf16, and that is all.
- NATIVE: nvfp4 and MX where the tensor cores take block scales, see `kernels.triton.blockscaled`.
- one factor left in bf16: the other's codes become bf16 exactly, the rest is the same.
"""

import triton
import triton.language as tl
from triton.language import constexpr

from kernels.triton.blockscaled import codes_of, scaled_product
from kernels.triton.numbers import magnitude_bits, quantized, scales


@triton.jit
def exact(code, scale, DTYPE: constexpr):
    """Their product, which DTYPE holds exactly."""
    if DTYPE == tl.float16:
        return code.to(tl.float16) * scale.to(tl.float16)
    return (code.to(tl.float32) * scale.to(tl.float32)).to(DTYPE)


@triton.jit
def factor(rows_whole, w_whole, expert, ROWS: constexpr, WEIGHTS: constexpr, FORMAT: constexpr, BY_EXPERT: constexpr):
    """What the tensor scales, one of each operand or of every expert, make of an expert's sums."""
    found = 1.0
    if FORMAT == "nvfp4":
        if ROWS:
            found *= tl.div_rn(1.0, tl.load(rows_whole + expert * BY_EXPERT))
        if WEIGHTS:
            found *= tl.div_rn(1.0, tl.load(w_whole + expert * BY_EXPERT))
    return found


@triton.jit
def _tile(
    values, scale, value_O, scale_O, live_O, at, STRIDE: constexpr, INNER: constexpr, WHOLE: constexpr, QUANTIZED: constexpr,
    FORMAT: constexpr, DTYPE: constexpr, B: constexpr, BLOCK_O: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    """(BLOCK_O, BLOCK_K) of an operand in DTYPE, from inner element `at` on; fp8's scales stay outside."""
    k = tl.arange(0, BLOCK_K)
    live = live_O[:, None] if WHOLE else live_O[:, None] & (k < INNER - at)[None, :]
    found = tl.load(values + value_O[:, None] + k[None, :] * STRIDE + at * STRIDE, mask=live, other=0.0)
    if FORMAT == "fp8" or not QUANTIZED:
        return found.to(DTYPE)
    count: constexpr = BLOCK_K // B
    n = at // B + tl.arange(0, count)
    live = live_O[:, None] if WHOLE else live_O[:, None] & (n < INNER // B)[None, :]
    scale_ON = scales(tl.load(scale + scale_O[:, None] + n[None, :], mask=live, other=0.0))
    spread = tl.reshape(tl.broadcast_to(scale_ON[:, :, None], (BLOCK_O, count, B)), (BLOCK_O, BLOCK_K))
    return exact(found, spread, DTYPE)


@triton.jit
def _add(
    acc_RN, x_RK, rows_scale, scale_R, live_R, w, w_scale, value_N, scale_N, live_N, at,
    STRIDE: constexpr, INNER: constexpr, WHOLE: constexpr, ROWS: constexpr, WEIGHTS: constexpr, FORMAT: constexpr,
    DTYPE: constexpr, B: constexpr, BLOCK_N: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    """`acc_RN` and what BLOCK_K inner elements contribute, from `at` on."""
    if not (ROWS or WEIGHTS):
        k = tl.arange(0, BLOCK_K)
        live_KN = (k < INNER - at)[:, None] & live_N[None, :]
        w_KN = tl.load(w + k[:, None] * STRIDE + value_N[None, :] + at * STRIDE, mask=live_KN, other=0.0)
        return tl.dot(x_RK, w_KN, acc_RN, input_precision="ieee")
    w_NK = _tile(w, w_scale, value_N, scale_N, live_N, at, STRIDE, INNER, WHOLE, WEIGHTS, FORMAT, DTYPE, B, BLOCK_N, BLOCK_K)
    if FORMAT != "fp8":
        return tl.dot(x_RK, tl.trans(w_NK), acc_RN, input_precision="ieee")
    part_RN = tl.dot(x_RK, tl.trans(w_NK), input_precision="ieee")
    n = at // BLOCK_K
    if ROWS:
        part_RN *= tl.load(rows_scale + scale_R + n, mask=live_R, other=0.0)[:, None]
    if WEIGHTS:
        part_RN *= tl.load(w_scale + scale_N + n, mask=live_N, other=0.0)[None, :]
    return acc_RN + part_RN


@triton.jit
def _sums(
    rows, rows_scale, rows_whole, source_R, live_R, w_EOI, w_scale, w_whole, expert, n, live_N,
    INNER: constexpr, OUTER: constexpr, TWICE: constexpr, STRIDE_E: constexpr, STRIDE_O: constexpr, STRIDE_I: constexpr,
    ROWS: constexpr, WEIGHTS: constexpr, FORMAT: constexpr, DTYPE: constexpr, B: constexpr, WIDE: constexpr,
    NATIVE: constexpr, BY_EXPERT: constexpr, BLOCK_R: constexpr, BLOCK_N: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    """rows[source] @ w[expert]^T in fp32: columns n, and with TWICE those OUTER / 2 further on (else zeros)."""
    a_byte: constexpr = 2 if NATIVE and FORMAT != "mxfp8" else 1
    value_R, scale_R = source_R * (INNER // a_byte), source_R * (INNER // B)
    value_N, scale_N = n * STRIDE_O, n // WIDE * (INNER // B)
    w, w_scale = w_EOI + expert * STRIDE_E, w_scale + expert * (OUTER // WIDE) * (INNER // B)
    half: constexpr = OUTER // 2
    # bf16 masks the inner dimension even where blocks divide it: without, ptxas takes 141 registers for up in SwiGLU on sm_90,
    # not 128, with which two programs fit a processor
    WHOLE: constexpr = INNER % BLOCK_K == 0 and (ROWS or WEIGHTS)
    first_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    second_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    w_2, w_scale_2 = w + half * STRIDE_O, w_scale + half // WIDE * (INNER // B)
    for at in range(0, INNER, BLOCK_K):
        if NATIVE:
            x_RK, x_RS = codes_of(rows, rows_scale, value_R, scale_R, live_R, at, INNER, FORMAT, B, BLOCK_K)
            w_NK, w_NS = codes_of(w, w_scale, value_N, scale_N, live_N, at, INNER, FORMAT, B, BLOCK_K)
            first_RN = scaled_product(first_RN, x_RK, x_RS, w_NK, w_NS, FORMAT)
            if TWICE:
                w_NK, w_NS = codes_of(w_2, w_scale_2, value_N, scale_N, live_N, at, INNER, FORMAT, B, BLOCK_K)
                second_RN = scaled_product(second_RN, x_RK, x_RS, w_NK, w_NS, FORMAT)
        else:
            x_RK = _tile(
                rows, rows_scale, value_R, scale_R, live_R, at, 1, INNER, WHOLE, ROWS, FORMAT, DTYPE, B, BLOCK_R, BLOCK_K
            )
            first_RN = _add(
                first_RN, x_RK, rows_scale, scale_R, live_R, w, w_scale, value_N, scale_N, live_N, at,
                STRIDE_I, INNER, WHOLE, ROWS, WEIGHTS, FORMAT, DTYPE, B, BLOCK_N, BLOCK_K,
            )  # fmt: skip
            if TWICE:
                second_RN = _add(
                    second_RN, x_RK, rows_scale, scale_R, live_R, w_2, w_scale_2, value_N, scale_N, live_N, at,
                    STRIDE_I, INNER, WHOLE, ROWS, WEIGHTS, FORMAT, DTYPE, B, BLOCK_N, BLOCK_K,
                )  # fmt: skip
    whole = factor(rows_whole, w_whole, expert, ROWS, WEIGHTS, FORMAT, BY_EXPERT)
    return first_RN * whole, second_RN * whole


@triton.jit
def _place(tile_row_I, start_E1, tile, expert, column, OUTER: constexpr, BLOCK_R: constexpr, BLOCK_N: constexpr):
    """A tile's first row, its rows from there on, a block's columns, and which of both there are."""
    first = tl.load(tile_row_I + tile)
    r = tl.arange(0, BLOCK_R)
    n = column * BLOCK_N + tl.arange(0, BLOCK_N)
    return first, r, n, r < tl.load(start_E1 + expert + 1) - first, n < OUTER


@triton.jit
def up_kernel(
    x, x_scale, x_whole, w_EOI, w_scale, w_whole, h_RG, a_RF, a_scale, weight_TK, row_R, start_E1, tile_expert_I, tile_row_I,
    D: constexpr, F: constexpr, K: constexpr, GATED: constexpr, BY_ROW: constexpr, STORED: constexpr, ENCODE: constexpr,
    CLIP: constexpr, STRIDE_E: constexpr, STRIDE_O: constexpr, STRIDE_I: constexpr,
    ROWS: constexpr, WEIGHTS: constexpr, FORMAT: constexpr, DTYPE: constexpr, B: constexpr, WIDE: constexpr,
    NATIVE: constexpr, BY_EXPERT: constexpr, BLOCK_R: constexpr, BLOCK_N: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    """h = x[token] @ w_up[expert], or with BY_ROW x[row], stored in its dtype; a = weight * act(h), from h before it is rounded
    or with STORED from h as stored. With ENCODE a is quantized to fp8 in the epilogue: a tile holds whole blocks of 128."""
    columns: constexpr = (F + BLOCK_N - 1) // BLOCK_N
    G: constexpr = 2 * F if GATED else F
    tile, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    expert = tl.load(tile_expert_I + tile)
    if expert < 0:
        return
    first, r, n, live_R, live_N = _place(tile_row_I, start_E1, tile, expert, column, F, BLOCK_R, BLOCK_N)
    row = tl.load(row_R + first + r, mask=live_R, other=0)
    first_RN, second_RN = _sums(
        x, x_scale, x_whole, first + r if BY_ROW else row // K, live_R, w_EOI, w_scale, w_whole, expert, n, live_N,
        D, G, GATED, STRIDE_E, STRIDE_O, STRIDE_I, ROWS, WEIGHTS, FORMAT, DTYPE, B, WIDE, NATIVE, BY_EXPERT,
        BLOCK_R, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    live_RN = live_R[:, None] & live_N[None, :]
    dtype: constexpr = h_RG.dtype.element_ty
    out_RN = h_RG + first * G + r[:, None] * G + n[None, :]
    tl.store(out_RN, first_RN.to(dtype), mask=live_RN)
    if GATED:
        tl.store(out_RN + F, second_RN.to(dtype), mask=live_RN)
    if STORED:
        first_RN, second_RN = first_RN.to(dtype).to(tl.float32), second_RN.to(dtype).to(tl.float32)
    weight = tl.load(weight_TK + row, mask=live_R, other=0.0)
    a_RN = (_activate(first_RN, second_RN, GATED) * weight[:, None]).to(dtype)
    out_RN = a_RF + first * F + r[:, None] * F + n[None, :]
    if ENCODE:
        a_3 = tl.reshape(a_RN.to(tl.float32), (BLOCK_R, BLOCK_N // B, B))
        amax_3 = tl.max(magnitude_bits(a_3), axis=2).to(tl.float32, bitcast=True)[:, :, None]
        value_3, scale_3 = quantized(a_3, amax_3, 1.0, 0.0, "fp8", CLIP, False)
        tl.store(out_RN, tl.reshape(value_3, (BLOCK_R, BLOCK_N)).to(tl.float8e4nv), mask=live_RN)
        m = column * (BLOCK_N // B) + tl.arange(0, BLOCK_N // B)
        out_RM = a_scale + first * (F // B) + r[:, None] * (F // B) + m[None, :]
        tl.store(out_RM, tl.reshape(scale_3, (BLOCK_R, BLOCK_N // B)), mask=live_R[:, None] & (m < F // B)[None, :])
    else:
        tl.store(out_RN, a_RN, mask=live_RN)


@triton.jit
def _activate(first_RN, second_RN, GATED: constexpr):
    """act(h) in fp32: silu(gate) * value, or relu(h)^2 of `first` alone. NaN stays NaN, as in torch: max.f32 would drop it."""
    if GATED:
        return first_RN * tl.sigmoid(first_RN) * second_RN
    positive_RN = tl.maximum(first_RN, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return positive_RN * positive_RN


@triton.jit
def rows_kernel(
    in_RI, in_scale, in_whole, w_EOI, w_scale, w_whole, out_RO, start_E1, tile_expert_I, tile_row_I,
    INNER: constexpr, OUTER: constexpr, STRIDE_E: constexpr, STRIDE_O: constexpr, STRIDE_I: constexpr,
    ROWS: constexpr, WEIGHTS: constexpr, FORMAT: constexpr, DTYPE: constexpr, B: constexpr, WIDE: constexpr,
    NATIVE: constexpr, BY_EXPERT: constexpr, BLOCK_R: constexpr, BLOCK_N: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    """out[r] = in[r] @ w[expert]^T: the down-projection, and dX's rows."""
    columns: constexpr = (OUTER + BLOCK_N - 1) // BLOCK_N
    tile, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    expert = tl.load(tile_expert_I + tile)
    if expert < 0:
        return
    first, r, n, live_R, live_N = _place(tile_row_I, start_E1, tile, expert, column, OUTER, BLOCK_R, BLOCK_N)
    a_byte: constexpr = 2 if NATIVE and FORMAT != "mxfp8" else 1
    sums_RN, _ = _sums(
        in_RI + first * (INNER // a_byte), in_scale + first * (INNER // B), in_whole, r, live_R,
        w_EOI, w_scale, w_whole, expert, n, live_N, INNER, OUTER, False, STRIDE_E, STRIDE_O, STRIDE_I,
        ROWS, WEIGHTS, FORMAT, DTYPE, B, WIDE, NATIVE, BY_EXPERT, BLOCK_R, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    out_RN = out_RO + first * OUTER + r[:, None] * OUTER + n[None, :]
    tl.store(out_RN, sums_RN.to(out_RO.dtype.element_ty), mask=live_R[:, None] & live_N[None, :])


@triton.jit
def dh_kernel(
    dy, dy_scale, dy_whole, w_EOI, w_scale, w_whole, h_RG, dh_RG, a_RF, dweight_RN, weight_TK,
    row_R, start_E1, tile_expert_I, tile_row_I,
    D: constexpr, F: constexpr, K: constexpr, GATED: constexpr, BY_ROW: constexpr, STORED: constexpr,
    STRIDE_E: constexpr, STRIDE_O: constexpr, STRIDE_I: constexpr,
    ROWS: constexpr, WEIGHTS: constexpr, FORMAT: constexpr, DTYPE: constexpr, B: constexpr, WIDE: constexpr,
    NATIVE: constexpr, BY_EXPERT: constexpr, BLOCK_R: constexpr, BLOCK_N: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    """da = dy[token] @ w_down[expert]^T, or with BY_ROW dy[row], with STORED rounded to h's dtype; writes dh = weight * da *
    act'(h), a = weight * act(h) (for dW_down), and for each block of columns the row's share of dweight = da . act(h): summed
    afterwards in the order of the blocks."""
    columns: constexpr = (F + BLOCK_N - 1) // BLOCK_N
    G: constexpr = 2 * F if GATED else F
    tile, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    expert = tl.load(tile_expert_I + tile)
    if expert < 0:
        return
    first, r, n, live_R, live_N = _place(tile_row_I, start_E1, tile, expert, column, F, BLOCK_R, BLOCK_N)
    row = tl.load(row_R + first + r, mask=live_R, other=0)
    da_RN, _ = _sums(
        dy, dy_scale, dy_whole, first + r if BY_ROW else row // K, live_R, w_EOI, w_scale, w_whole, expert, n, live_N,
        D, F, False, STRIDE_E, STRIDE_O, STRIDE_I, ROWS, WEIGHTS, FORMAT, DTYPE, B, WIDE, NATIVE, BY_EXPERT,
        BLOCK_R, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    weight = tl.load(weight_TK + row, mask=live_R, other=0.0)[:, None]
    h, dh, a = h_RG + first * G, dh_RG + first * G, a_RF + first * F
    half: constexpr = BLOCK_N // 2
    if half >= 32:  # as a whole it would need more registers than there are
        low_RN, high_RN = tl.split(tl.permute(tl.reshape(da_RN, (BLOCK_R, 2, half)), (0, 2, 1)))
        n = column * BLOCK_N + tl.arange(0, half)
        share_R = _hidden_gradient(low_RN, h, dh, a, weight, r, n, live_R, F, GATED, STORED)
        share_R += _hidden_gradient(high_RN, h, dh, a, weight, r, n + half, live_R, F, GATED, STORED)
    else:
        share_R = _hidden_gradient(da_RN, h, dh, a, weight, r, n, live_R, F, GATED, STORED)
    tl.store(dweight_RN + first * columns + r * columns + column, share_R, mask=live_R)


@triton.jit
def _hidden_gradient(da_RN, h, dh, a, weight, r, n, live_R, F: constexpr, GATED: constexpr, STORED: constexpr):
    """Writes dh and a at rows r and columns n of a tile, and returns da . act(h) over these columns."""
    G: constexpr = 2 * F if GATED else F
    dtype: constexpr = h.dtype.element_ty
    if STORED:
        da_RN = da_RN.to(dtype).to(tl.float32)
    live_RN = live_R[:, None] & (n < F)[None, :]
    at_RN = r[:, None] * G + n[None, :]
    first_RN = tl.load(h + at_RN, mask=live_RN, other=0.0).to(tl.float32)
    if GATED:
        value_RN = tl.load(h + at_RN + F, mask=live_RN, other=0.0).to(tl.float32)
        sigmoid_RN = tl.sigmoid(first_RN)
        silu_RN = first_RN * sigmoid_RN
        a_RN = silu_RN * value_RN
        dgate_RN = da_RN * value_RN * (sigmoid_RN + silu_RN * (1.0 - sigmoid_RN))
        tl.store(dh + at_RN, (dgate_RN * weight).to(dtype), mask=live_RN)
        tl.store(dh + at_RN + F, (da_RN * silu_RN * weight).to(dtype), mask=live_RN)
    else:
        positive_RN = tl.maximum(first_RN, 0.0, propagate_nan=tl.PropagateNan.ALL)
        a_RN = positive_RN * positive_RN
        tl.store(dh + at_RN, (2.0 * positive_RN * da_RN * weight).to(dtype), mask=live_RN)
    tl.store(a + r[:, None] * F + n[None, :], (a_RN * weight).to(dtype), mask=live_RN)
    return tl.sum(da_RN * a_RN, axis=1)


@triton.jit
def combine_kernel(rows_RD, row_of_TK, start_E1, out_TD, T, D: constexpr, K: constexpr, BLOCK_T: constexpr, BLOCK_N: constexpr):
    """out_t = sum over k, in the order of k, of rows[row_of_tk]; fp32. A gather, so no order of arrival. Rows before the first
    expert's are dropped ones, which nobody wrote: they count as zeros."""
    columns: constexpr = (D + BLOCK_N - 1) // BLOCK_N
    t = (tl.program_id(0) // columns).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    n = (tl.program_id(0) % columns) * BLOCK_N + tl.arange(0, BLOCK_N)
    live_T = t < T
    live_TN = live_T[:, None] & (n < D)[None, :]
    first = tl.load(start_E1)
    acc_TN = tl.zeros((BLOCK_T, BLOCK_N), tl.float32)
    for k in tl.static_range(K):
        row = tl.load(row_of_TK + t * K + k, mask=live_T, other=0)
        written_TN = live_TN & (row >= first)[:, None]
        acc_TN += tl.load(rows_RD + row[:, None] * D + n[None, :], mask=written_TN, other=0.0).to(tl.float32)
    tl.store(out_TD + t[:, None] * D + n[None, :], acc_TN, mask=live_TN)
