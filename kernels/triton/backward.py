"""The backward's own kernels: dH with everything that falls out of it, and the weight gradients.

Letters as in `kernels.triton.forward`. dX is `rows_kernel` on dH with w_up read transposed, then `combine_kernel`.
"""

import triton
import triton.language as tl


@triton.jit
def dh_epilogue(
    da_RN, h_RG, dh_RG, a_RF, dweight_RN, weight_TK, row, first, r, n, column, live_R, live_N,
    F: tl.constexpr, columns: tl.constexpr, GATED: tl.constexpr,
):  # fmt: skip
    """From a tile of da (fp32): dh, a, and the block of columns' share of dweight."""
    G: tl.constexpr = 2 * F if GATED else F
    live_RN = live_R[:, None] & live_N[None, :]
    weight = tl.load(weight_TK + row, mask=live_R, other=0.0)[:, None]
    h_RN = h_RG + first * G + r[:, None] * G + n[None, :]
    dh_RN = dh_RG + first * G + r[:, None] * G + n[None, :]
    dtype: tl.constexpr = h_RG.dtype.element_ty
    first_RN = tl.load(h_RN, mask=live_RN, other=0.0).to(tl.float32)
    if GATED:
        value_RN = tl.load(h_RN + F, mask=live_RN, other=0.0).to(tl.float32)
        sigmoid_RN = tl.sigmoid(first_RN)
        silu_RN = first_RN * sigmoid_RN
        a_RN = silu_RN * value_RN
        dgate_RN = da_RN * value_RN * (sigmoid_RN + silu_RN * (1.0 - sigmoid_RN))
        tl.store(dh_RN, (dgate_RN * weight).to(dtype), mask=live_RN)
        tl.store(dh_RN + F, (da_RN * silu_RN * weight).to(dtype), mask=live_RN)
    else:
        positive_RN = tl.maximum(first_RN, 0.0, propagate_nan=tl.PropagateNan.ALL)
        a_RN = positive_RN * positive_RN
        tl.store(dh_RN, (2.0 * positive_RN * da_RN * weight).to(dtype), mask=live_RN)
    tl.store(a_RF + first * F + r[:, None] * F + n[None, :], (a_RN * weight).to(dtype), mask=live_RN)
    tl.store(dweight_RN + first * columns + r * columns + column, tl.sum(da_RN * a_RN, axis=1), mask=live_R)


@triton.jit
def dh_kernel(
    dy_TD, w_down_EFD, h_RG, dh_RG, a_RF, dweight_RN, weight_TK, row_R, start_E1, tile_expert_I, tile_row_I,
    D: tl.constexpr, F: tl.constexpr, K: tl.constexpr, GATED: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """da = dy[token] @ w_down[expert]^T; writes dh = weight * da * act'(h), a = weight * act(h) (for dW_down), and for each
    block of columns the row's share of dweight = da . act(h): summed afterwards in the order of the blocks."""
    columns: tl.constexpr = (F + BLOCK_N - 1) // BLOCK_N
    tile, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    expert = tl.load(tile_expert_I + tile)
    if expert < 0:
        return
    first = tl.load(tile_row_I + tile)
    r = tl.arange(0, BLOCK_R)
    n = column * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_K)
    live_R, live_N = r < tl.load(start_E1 + expert + 1) - first, n < F
    row = tl.load(row_R + first + r, mask=live_R, other=0)
    dy_RD = dy_TD + (row // K)[:, None] * D + d[None, :]
    w_DN = w_down_EFD + expert * F * D + n[None, :] * D + d[:, None]
    da_RN = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for at in range(0, D, BLOCK_K):
        live_D = d < D - at
        dy = tl.load(dy_RD + at, mask=live_R[:, None] & live_D[None, :], other=0.0)
        w = tl.load(w_DN + at, mask=live_D[:, None] & live_N[None, :], other=0.0)
        da_RN = tl.dot(dy, w, da_RN, input_precision=PRECISION)
    dh_epilogue(da_RN, h_RG, dh_RG, a_RF, dweight_RN, weight_TK, row, first, r, n, column, live_R, live_N, F, columns, GATED)


@triton.jit
def weight_gradient_kernel(
    left, right, dw_EIO, row_R, start_E1,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, K: tl.constexpr, GATHER_LEFT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """dw[expert] = left^T @ right over the expert's rows, in their order; one writer per tile, zeros for an empty expert.

    One side lies by token and is gathered (x for dW_up, dy for dW_down), the other by row.
    """
    rows_of: tl.constexpr = (INPUTS + BLOCK_I - 1) // BLOCK_I
    columns: tl.constexpr = (OUTPUTS + BLOCK_O - 1) // BLOCK_O
    tile = tl.program_id(0) % (rows_of * columns)
    expert = (tl.program_id(0) // (rows_of * columns)).to(tl.int64)
    i = (tile // columns) * BLOCK_I + tl.arange(0, BLOCK_I)
    o = (tile % columns) * BLOCK_O + tl.arange(0, BLOCK_O)
    live_I, live_O = i < INPUTS, o < OUTPUTS
    start, end = tl.load(start_E1 + expert), tl.load(start_E1 + expert + 1)
    acc_IO = tl.zeros((BLOCK_I, BLOCK_O), tl.float32)
    for at in range(start, end, BLOCK_K):
        r = at + tl.arange(0, BLOCK_K)
        live_R = r < end
        token = tl.load(row_R + r, mask=live_R, other=0) // K
        if GATHER_LEFT:
            left_R, right_R = token, r
        else:
            left_R, right_R = r, token
        left_IR = tl.load(left + left_R[None, :] * INPUTS + i[:, None], mask=live_I[:, None] & live_R[None, :], other=0.0)
        right_RO = tl.load(right + right_R[:, None] * OUTPUTS + o[None, :], mask=live_R[:, None] & live_O[None, :], other=0.0)
        acc_IO = tl.dot(left_IR, right_RO, acc_IO, input_precision=PRECISION)
    out_IO = dw_EIO + expert * INPUTS * OUTPUTS + i[:, None] * OUTPUTS + o[None, :]
    tl.store(out_IO, acc_IO, mask=live_I[:, None] & live_O[None, :])
