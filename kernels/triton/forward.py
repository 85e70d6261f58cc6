"""Up-projection with gather and activation, and down-projection, over the tiles of `kernels.triton.metadata`.

Letters: T tokens, D width, F expert width, G pre-activation width (F, or 2F for SwiGLU), E experts, R rows in expert order, K
top-k. A tile is BLOCK_R rows of one expert; each program computes BLOCK_N columns of it. Row offsets are
int64 (R*G may pass 2^31), held once a tile: offsets within it are int32, which saves registers.
"""

import triton
import triton.language as tl


@triton.jit
def activate(first_RN, second_RN, GATED: tl.constexpr):
    """act(h) in fp32: silu(gate) * value, or relu(h)^2 of `first` alone."""
    if GATED:
        return first_RN * tl.sigmoid(first_RN) * second_RN
    positive_RN = tl.maximum(first_RN, 0.0)
    return positive_RN * positive_RN


@triton.jit
def up_kernel(
    x_TD, w_up_EDG, h_RG, a_RF, weight_TK, row_R, start_E1, tile_expert_I, tile_row_I,
    D: tl.constexpr, F: tl.constexpr, K: tl.constexpr, GATED: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """h = x[token] @ w_up[expert], stored in its dtype; a = weight * act(h), from h before it is rounded."""
    columns: tl.constexpr = (F + BLOCK_N - 1) // BLOCK_N
    G: tl.constexpr = 2 * F if GATED else F
    tile = tl.program_id(0) // columns
    expert = tl.load(tile_expert_I + tile)
    if expert < 0:
        return
    first = tl.load(tile_row_I + tile)
    r = tl.arange(0, BLOCK_R)
    n = (tl.program_id(0) % columns) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_K)
    live_R, live_N = r < tl.load(start_E1 + expert + 1) - first, n < F
    row = tl.load(row_R + first + r, mask=live_R, other=0)
    x_RD = x_TD + (row // K)[:, None] * D + d[None, :]
    w_DN = w_up_EDG + expert * D * G + d[:, None] * G + n[None, :]
    first_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    second_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for at in range(0, D, BLOCK_K):
        live_D = d < D - at
        x = tl.load(x_RD + at, mask=live_R[:, None] & live_D[None, :], other=0.0)
        live_DN = live_D[:, None] & live_N[None, :]
        first_RN = tl.dot(x, tl.load(w_DN + at * G, mask=live_DN, other=0.0), first_RN, input_precision=PRECISION)
        if GATED:
            second_RN = tl.dot(x, tl.load(w_DN + at * G + F, mask=live_DN, other=0.0), second_RN, input_precision=PRECISION)
    live_RN = live_R[:, None] & live_N[None, :]
    dtype: tl.constexpr = h_RG.dtype.element_ty
    out_RN = h_RG + first * G + r[:, None] * G + n[None, :]
    tl.store(out_RN, first_RN.to(dtype), mask=live_RN)
    if GATED:
        tl.store(out_RN + F, second_RN.to(dtype), mask=live_RN)
    weight = tl.load(weight_TK + row, mask=live_R, other=0.0)
    a_RN = activate(first_RN, second_RN, GATED) * weight[:, None]
    tl.store(a_RF + first * F + r[:, None] * F + n[None, :], a_RN.to(dtype), mask=live_RN)


@triton.jit
def rows_kernel(
    in_RI, w_EIO, out_RO, start_E1, tile_expert_I, tile_row_I, expert_stride, inner_stride, outer_stride,
    INNER: tl.constexpr, OUTER: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out[r] = in[r] @ w[expert], both contiguous by row: the down-projection, and dX's rows with w read transposed."""
    columns: tl.constexpr = (OUTER + BLOCK_N - 1) // BLOCK_N
    tile = tl.program_id(0) // columns
    expert = tl.load(tile_expert_I + tile)
    if expert < 0:
        return
    first = tl.load(tile_row_I + tile)
    r = tl.arange(0, BLOCK_R)
    n = (tl.program_id(0) % columns) * BLOCK_N + tl.arange(0, BLOCK_N)
    i = tl.arange(0, BLOCK_K)
    live_R, live_N = r < tl.load(start_E1 + expert + 1) - first, n < OUTER
    in_RK = in_RI + first * INNER + r[:, None] * INNER + i[None, :]
    w_KN = w_EIO + expert * expert_stride + i[:, None] * inner_stride + n[None, :] * outer_stride
    acc_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for at in range(0, INNER, BLOCK_K):
        live_K = i < INNER - at
        rows = tl.load(in_RK + at, mask=live_R[:, None] & live_K[None, :], other=0.0)
        w = tl.load(w_KN + at * inner_stride, mask=live_K[:, None] & live_N[None, :], other=0.0)
        acc_RN = tl.dot(rows, w, acc_RN, input_precision=PRECISION)
    out_RN = out_RO + first * OUTER + r[:, None] * OUTER + n[None, :]
    tl.store(out_RN, acc_RN.to(out_RO.dtype.element_ty), mask=live_R[:, None] & live_N[None, :])


@triton.jit
def combine_kernel(
    rows_RD, slot_TK, start_E1, out_TD, T, D: tl.constexpr, K: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr
):
    """out_t = sum over k, in the order of k, of rows[slot_tk]; fp32. A gather, so no order of arrival. Rows before the first
    expert's are dropped ones, which nobody wrote: they count as zeros."""
    columns: tl.constexpr = (D + BLOCK_N - 1) // BLOCK_N
    t = (tl.program_id(0) // columns).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    n = (tl.program_id(0) % columns) * BLOCK_N + tl.arange(0, BLOCK_N)
    live_T = t < T
    live_TN = live_T[:, None] & (n < D)[None, :]
    first = tl.load(start_E1)
    acc_TN = tl.zeros((BLOCK_T, BLOCK_N), tl.float32)
    for k in range(K):
        slot = tl.load(slot_TK + t * K + k, mask=live_T, other=0)
        written_TN = live_TN & (slot >= first)[:, None]
        acc_TN += tl.load(rows_RD + slot[:, None] * D + n[None, :], mask=written_TN, other=0.0).to(tl.float32)
    tl.store(out_TD + t[:, None] * D + n[None, :], acc_TN, mask=live_TN)
