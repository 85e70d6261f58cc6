"""The weight gradients: left^T @ right over an expert's rows, in their order; one writer per tile, zeros for an empty expert.

Letters as in `kernels.triton.products` and `kernels.triton.quantizers`.

| FORMAT | factors | `start_E1` counts |
|---|---|---|
| "" | one lies by token and is gathered (x for dW_up, dy for dW_down), the other by row | rows |
| "nvfp4" | both by slot: an expert's rows padded with zeros to whole blocks of 16 | slots |
| "mxfp8", "mxfp4" | the same in blocks of 32 | slots |
| NATIVE | the last three, by column: what the tensor cores of compute capability 10.x take with their block scales | slots |
| "fp8" | both by slot, padded to blocks of 128: codes are multiplied as they are, a block at a time, its sums scaled and added in fp32 | slots |

`fold_kernel` is that of "" where an expert's rows are of several units: it adds one unit's sum after the other to a total.
"""  # noqa: E501

import triton
import triton.language as tl
from triton.language import constexpr

from kernels.triton.blockscaled import codes_of, scaled_product
from kernels.triton.numbers import scales
from kernels.triton.products import exact, factor


@triton.jit
def weight_gradient_kernel(
    left, left_scale, left_whole, right, right_scale, right_whole, dw_EIO, row_R, start_E1, slots,
    INPUTS: constexpr, OUTPUTS: constexpr, K: constexpr, GATHER_LEFT: constexpr, FORMAT: constexpr, DTYPE: constexpr,
    B: constexpr, NATIVE: constexpr, BY_EXPERT: constexpr, BLOCK_I: constexpr, BLOCK_O: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    rows_of: constexpr = (INPUTS + BLOCK_I - 1) // BLOCK_I
    columns: constexpr = (OUTPUTS + BLOCK_O - 1) // BLOCK_O
    tile = tl.program_id(0) % (rows_of * columns)
    expert = (tl.program_id(0) // (rows_of * columns)).to(tl.int64)
    i = (tile // columns) * BLOCK_I + tl.arange(0, BLOCK_I)
    o = (tile % columns) * BLOCK_O + tl.arange(0, BLOCK_O)
    live_I, live_O = i < INPUTS, o < OUTPUTS
    a_byte: constexpr = 1 if FORMAT == "mxfp8" else 2
    column_I, column_O = i.to(tl.int64) * slots, o.to(tl.int64) * slots  # where a column's slots begin, of NATIVE
    start, end = tl.load(start_E1 + expert), tl.load(start_E1 + expert + 1)
    if FORMAT == "":
        acc_IO = _sums_of_rows(
            left, right, row_R, start, end, i, o, live_I, live_O, INPUTS, OUTPUTS, K, GATHER_LEFT, BLOCK_I, BLOCK_O, BLOCK_K
        )
    else:
        acc_IO = tl.zeros((BLOCK_I, BLOCK_O), tl.float32)
        for at in range(start, end, BLOCK_K):
            if FORMAT == "fp8":
                left_IK = _block(left, at // BLOCK_K, i, live_I, INPUTS, BLOCK_K)
                right_OK = _block(right, at // BLOCK_K, o, live_O, OUTPUTS, BLOCK_K)
                part_IO = tl.dot(left_IK, tl.trans(right_OK), input_precision="ieee")
                part_IO *= tl.load(left_scale + at // BLOCK_K * INPUTS + i, mask=live_I, other=0.0)[:, None]
                part_IO *= tl.load(right_scale + at // BLOCK_K * OUTPUTS + o, mask=live_O, other=0.0)[None, :]
                acc_IO += part_IO
            elif NATIVE:
                left_IK, left_IS = codes_of(
                    left, left_scale, column_I // a_byte, column_I // B, live_I, at, end, FORMAT, B, BLOCK_K
                )
                right_OK, right_OS = codes_of(
                    right, right_scale, column_O // a_byte, column_O // B, live_O, at, end, FORMAT, B, BLOCK_K
                )
                acc_IO = scaled_product(acc_IO, left_IK, left_IS, right_OK, right_OS, FORMAT)
            else:
                left_KI = _slots(left, left_scale, at, end, i, live_I, INPUTS, DTYPE, B, BLOCK_I, BLOCK_K)
                right_KO = _slots(right, right_scale, at, end, o, live_O, OUTPUTS, DTYPE, B, BLOCK_O, BLOCK_K)
                acc_IO = tl.dot(tl.trans(left_KI), right_KO, acc_IO, input_precision="ieee")
    if FORMAT == "nvfp4":
        acc_IO *= factor(left_whole, right_whole, expert, True, True, FORMAT, BY_EXPERT)
    out_IO = dw_EIO + expert * INPUTS * OUTPUTS + i[:, None] * OUTPUTS + o[None, :]
    tl.store(out_IO, acc_IO, mask=live_I[:, None] & live_O[None, :])


@triton.jit
def fold_kernel(
    left, right, total_EIO, row_R, start_U1, units,
    INPUTS: constexpr, OUTPUTS: constexpr, K: constexpr, GATHER_LEFT: constexpr, ADD: constexpr,
    BLOCK_I: constexpr, BLOCK_O: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    """total[expert] = total[expert] + left^T @ right over the expert's rows of one unit, for one unit after the other; a unit
    without rows adds zeros. Without ADD nothing is read, and the first unit's sum is kept as it is. `start_U1`: the first row
    of each expert and, within it, of each of its `units`."""
    rows_of: constexpr = (INPUTS + BLOCK_I - 1) // BLOCK_I
    columns: constexpr = (OUTPUTS + BLOCK_O - 1) // BLOCK_O
    tile = tl.program_id(0) % (rows_of * columns)
    expert = (tl.program_id(0) // (rows_of * columns)).to(tl.int64)
    i = (tile // columns) * BLOCK_I + tl.arange(0, BLOCK_I)
    o = (tile % columns) * BLOCK_O + tl.arange(0, BLOCK_O)
    live_I, live_O = i < INPUTS, o < OUTPUTS
    live_IO = live_I[:, None] & live_O[None, :]
    out_IO = total_EIO + expert * INPUTS * OUTPUTS + i[:, None] * OUTPUTS + o[None, :]
    first = start_U1 + expert * units
    if ADD:
        total_IO = tl.load(out_IO, mask=live_IO, other=0.0)
    else:
        total_IO = _sums_of_rows(
            left, right, row_R, tl.load(first), tl.load(first + 1), i, o, live_I, live_O,
            INPUTS, OUTPUTS, K, GATHER_LEFT, BLOCK_I, BLOCK_O, BLOCK_K,
        )  # fmt: skip
    for unit in range(0 if ADD else 1, units):
        total_IO += _sums_of_rows(
            left, right, row_R, tl.load(first + unit), tl.load(first + unit + 1), i, o, live_I, live_O,
            INPUTS, OUTPUTS, K, GATHER_LEFT, BLOCK_I, BLOCK_O, BLOCK_K,
        )  # fmt: skip
    tl.store(out_IO, total_IO, mask=live_IO)


@triton.jit
def _sums_of_rows(
    left, right, row_R, start, end, i, o, live_I, live_O, INPUTS: constexpr, OUTPUTS: constexpr, K: constexpr,
    GATHER_LEFT: constexpr, BLOCK_I: constexpr, BLOCK_O: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    """(BLOCK_I, BLOCK_O) of left^T @ right over the rows from `start` to `end`, zeros where there are none."""
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
        acc_IO = tl.dot(left_IR, right_RO, acc_IO, input_precision="ieee")
    return acc_IO


@triton.jit
def _slots(
    codes, scale, at, end, i, live_I, WIDTH: constexpr, DTYPE: constexpr, B: constexpr, BLOCK_I: constexpr, BLOCK_K: constexpr
):
    """(BLOCK_K, BLOCK_I) of a factor in DTYPE, from slot `at` (a multiple of B) on."""
    count: constexpr = BLOCK_K // B
    k, n = tl.arange(0, BLOCK_K), tl.arange(0, count)
    live_KI = (k < end - at)[:, None] & live_I[None, :]
    code_KI = tl.load(codes + at * WIDTH + k[:, None] * WIDTH + i[None, :], mask=live_KI, other=0.0)
    live_NI = (n * B < end - at)[:, None] & live_I[None, :]
    scale_NI = scales(tl.load(scale + at // B * WIDTH + n[:, None] * WIDTH + i[None, :], mask=live_NI, other=0.0))
    spread = tl.reshape(tl.broadcast_to(scale_NI[:, None, :], (count, B, BLOCK_I)), (BLOCK_K, BLOCK_I))
    return exact(code_KI, spread, DTYPE)


@triton.jit
def _block(codes, block, i, live_I, WIDTH: constexpr, BLOCK_K: constexpr):
    """(BLOCK_I, BLOCK_K) codes of an fp8 factor."""
    k = tl.arange(0, BLOCK_K)
    return tl.load(codes + (block * WIDTH + i)[:, None] * BLOCK_K + k[None, :], mask=live_I[:, None], other=0.0)
