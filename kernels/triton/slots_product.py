"""The weight gradients below bf16, over slots: an expert's rows padded with zeros to whole blocks of 16, in fp8 of 128.

Letters as in `kernels.triton.quantizers`."""

import triton
import triton.language as tl

from kernels.triton.products_quantized import exact, factor


@triton.jit
def slots_product_kernel(
    left_PI, left_scale, left_whole, right_PO, right_scale, right_whole, dw_EIO, slot_E1,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, BY_EXPERT: tl.constexpr,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """dw[expert] = left^T @ right over the expert's slots, in their order, both nvfp4; one writer per tile, zeros for an empty
    expert."""
    rows_of: tl.constexpr = (INPUTS + BLOCK_I - 1) // BLOCK_I
    columns: tl.constexpr = (OUTPUTS + BLOCK_O - 1) // BLOCK_O
    tile = tl.program_id(0) % (rows_of * columns)
    expert = (tl.program_id(0) // (rows_of * columns)).to(tl.int64)
    i = (tile // columns) * BLOCK_I + tl.arange(0, BLOCK_I)
    o = (tile % columns) * BLOCK_O + tl.arange(0, BLOCK_O)
    live_I, live_O = i < INPUTS, o < OUTPUTS
    start, end = tl.load(slot_E1 + expert), tl.load(slot_E1 + expert + 1)
    acc_IO = tl.zeros((BLOCK_I, BLOCK_O), tl.float32)
    for at in range(start, end, BLOCK_K):
        left_KI = _slots(left_PI, left_scale, at, end, i, live_I, INPUTS, BLOCK_I, BLOCK_K)
        right_KO = _slots(right_PO, right_scale, at, end, o, live_O, OUTPUTS, BLOCK_O, BLOCK_K)
        acc_IO = tl.dot(tl.trans(left_KI), right_KO, acc_IO, input_precision="ieee")
    acc_IO *= factor(left_whole, right_whole, expert, True, True, False, BY_EXPERT)
    out_IO = dw_EIO + expert * INPUTS * OUTPUTS + i[:, None] * OUTPUTS + o[None, :]
    tl.store(out_IO, acc_IO, mask=live_I[:, None] & live_O[None, :])


@triton.jit
def _slots(codes, scale, at, end, i, live_I, WIDTH: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_K: tl.constexpr):
    """(BLOCK_K, BLOCK_I) of a factor in fp16, from slot `at` (a multiple of 16) on."""
    count: tl.constexpr = BLOCK_K // 16
    k, n = tl.arange(0, BLOCK_K), tl.arange(0, count)
    live_KI = (k < end - at)[:, None] & live_I[None, :]
    code_KI = tl.load(codes + at * WIDTH + k[:, None] * WIDTH + i[None, :], mask=live_KI, other=0.0)
    live_NI = (n * 16 < end - at)[:, None] & live_I[None, :]
    scale_NI = tl.load(scale + at // 16 * WIDTH + n[:, None] * WIDTH + i[None, :], mask=live_NI, other=0.0)
    spread = tl.reshape(tl.broadcast_to(scale_NI[:, None, :], (count, 16, BLOCK_I)), (BLOCK_K, BLOCK_I))
    return exact(code_KI, spread, tl.float16)


@triton.jit
def tiles_product_kernel(
    left_BIS, left_scale_BI, right_BOS, right_scale_BO, dw_EIO, block_E1, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """As `slots_product_kernel`, both fp8: codes are multiplied as they are, a block at a time, its sums scaled and added in
    fp32."""
    rows_of: tl.constexpr = (INPUTS + BLOCK_I - 1) // BLOCK_I
    columns: tl.constexpr = (OUTPUTS + BLOCK_O - 1) // BLOCK_O
    tile = tl.program_id(0) % (rows_of * columns)
    expert = (tl.program_id(0) // (rows_of * columns)).to(tl.int64)
    i = (tile // columns) * BLOCK_I + tl.arange(0, BLOCK_I)
    o = (tile % columns) * BLOCK_O + tl.arange(0, BLOCK_O)
    live_I, live_O, s = i < INPUTS, o < OUTPUTS, tl.arange(0, BLOCK_S)
    acc_IO = tl.zeros((BLOCK_I, BLOCK_O), tl.float32)
    for block in range(tl.load(block_E1 + expert), tl.load(block_E1 + expert + 1)):
        left_IS = tl.load(left_BIS + (block * INPUTS + i)[:, None] * BLOCK_S + s[None, :], mask=live_I[:, None], other=0.0)
        right_OS = tl.load(right_BOS + (block * OUTPUTS + o)[:, None] * BLOCK_S + s[None, :], mask=live_O[:, None], other=0.0)
        part_IO = tl.dot(left_IS, tl.trans(right_OS), input_precision="ieee")
        part_IO *= tl.load(left_scale_BI + block * INPUTS + i, mask=live_I, other=0.0)[:, None]
        part_IO *= tl.load(right_scale_BO + block * OUTPUTS + o, mask=live_O, other=0.0)[None, :]
        acc_IO += part_IO
    out_IO = dw_EIO + expert * INPUTS * OUTPUTS + i[:, None] * OUTPUTS + o[None, :]
    tl.store(out_IO, acc_IO, mask=live_I[:, None] & live_O[None, :])
