"""The weight gradients: left^T @ right over an expert's rows, in their order; one writer per tile, zeros for an empty expert.

Letters as in `kernels.triton.products` and `kernels.triton.quantizers`.

| FORMAT | factors | `start_E1` counts |
|---|---|---|
| "" | one lies by token and is gathered (x for dW_up, dy for dW_down), the other by row | rows |
| "nvfp4" | both by slot: an expert's rows padded with zeros to whole blocks of 16 | slots |
| "fp8" | both by slot, padded to blocks of 128: codes are multiplied as they are, a block at a time, its sums scaled and added in fp32 | slots |
"""  # noqa: E501

import triton
import triton.language as tl
from triton.language import constexpr

from kernels.triton.products import exact, factor


@triton.jit
def weight_gradient_kernel(
    left, left_scale, left_whole, right, right_scale, right_whole, dw_EIO, row_R, start_E1,
    INPUTS: constexpr, OUTPUTS: constexpr, K: constexpr, GATHER_LEFT: constexpr, FORMAT: constexpr, BY_EXPERT: constexpr,
    BLOCK_I: constexpr, BLOCK_O: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    rows_of: constexpr = (INPUTS + BLOCK_I - 1) // BLOCK_I
    columns: constexpr = (OUTPUTS + BLOCK_O - 1) // BLOCK_O
    tile = tl.program_id(0) % (rows_of * columns)
    expert = (tl.program_id(0) // (rows_of * columns)).to(tl.int64)
    i = (tile // columns) * BLOCK_I + tl.arange(0, BLOCK_I)
    o = (tile % columns) * BLOCK_O + tl.arange(0, BLOCK_O)
    live_I, live_O = i < INPUTS, o < OUTPUTS
    start, end = tl.load(start_E1 + expert), tl.load(start_E1 + expert + 1)
    acc_IO = tl.zeros((BLOCK_I, BLOCK_O), tl.float32)
    for at in range(start, end, BLOCK_K):
        if FORMAT == "fp8":
            left_IK = _block(left, at // BLOCK_K, i, live_I, INPUTS, BLOCK_K)
            right_OK = _block(right, at // BLOCK_K, o, live_O, OUTPUTS, BLOCK_K)
            part_IO = tl.dot(left_IK, tl.trans(right_OK), input_precision="ieee")
            part_IO *= tl.load(left_scale + at // BLOCK_K * INPUTS + i, mask=live_I, other=0.0)[:, None]
            part_IO *= tl.load(right_scale + at // BLOCK_K * OUTPUTS + o, mask=live_O, other=0.0)[None, :]
            acc_IO += part_IO
        elif FORMAT == "nvfp4":
            left_KI = _slots(left, left_scale, at, end, i, live_I, INPUTS, BLOCK_I, BLOCK_K)
            right_KO = _slots(right, right_scale, at, end, o, live_O, OUTPUTS, BLOCK_O, BLOCK_K)
            acc_IO = tl.dot(tl.trans(left_KI), right_KO, acc_IO, input_precision="ieee")
        else:
            r = at + tl.arange(0, BLOCK_K)
            live_R = r < end
            token = tl.load(row_R + r, mask=live_R, other=0) // K
            if GATHER_LEFT:
                left_R, right_R = token, r
            else:
                left_R, right_R = r, token
            left_IR = tl.load(left + left_R[None, :] * INPUTS + i[:, None], mask=live_I[:, None] & live_R[None, :], other=0.0)
            right_RO = tl.load(
                right + right_R[:, None] * OUTPUTS + o[None, :], mask=live_R[:, None] & live_O[None, :], other=0.0
            )
            acc_IO = tl.dot(left_IR, right_RO, acc_IO, input_precision="ieee")
    if FORMAT == "nvfp4":
        acc_IO *= factor(left_whole, right_whole, expert, True, True, False, BY_EXPERT)
    out_IO = dw_EIO + expert * INPUTS * OUTPUTS + i[:, None] * OUTPUTS + o[None, :]
    tl.store(out_IO, acc_IO, mask=live_I[:, None] & live_O[None, :])


@triton.jit
def _slots(codes, scale, at, end, i, live_I, WIDTH: constexpr, BLOCK_I: constexpr, BLOCK_K: constexpr):
    """(BLOCK_K, BLOCK_I) of an nvfp4 factor in fp16, from slot `at` (a multiple of 16) on."""
    count: constexpr = BLOCK_K // 16
    k, n = tl.arange(0, BLOCK_K), tl.arange(0, count)
    live_KI = (k < end - at)[:, None] & live_I[None, :]
    code_KI = tl.load(codes + at * WIDTH + k[:, None] * WIDTH + i[None, :], mask=live_KI, other=0.0)
    live_NI = (n * 16 < end - at)[:, None] & live_I[None, :]
    scale_NI = tl.load(scale + at // 16 * WIDTH + n[:, None] * WIDTH + i[None, :], mask=live_NI, other=0.0)
    spread = tl.reshape(tl.broadcast_to(scale_NI[:, None, :], (count, 16, BLOCK_I)), (BLOCK_K, BLOCK_I))
    return exact(code_KI, spread, tl.float16)


@triton.jit
def _block(codes, block, i, live_I, WIDTH: constexpr, BLOCK_K: constexpr):
    """(BLOCK_I, BLOCK_K) codes of an fp8 factor."""
    k = tl.arange(0, BLOCK_K)
    return tl.load(codes + (block * WIDTH + i)[:, None] * BLOCK_K + k[None, :], mask=live_I[:, None], other=0.0)
