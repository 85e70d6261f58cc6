"""fp32 products of a router, of which one side is thin: three products of TF32 in place of one that no tensor core does.

Letters: M rows, N columns, K inner dimension, S parts of the inner dimension, whose sums are added in their order.

TF32x3 splits each factor into two TF32 numbers (11 significant bits) and leaves out the product of the two lower ones: the
error is about that of fp32, 2^-22 of the largest term.
"""

import triton
import triton.language as tl
from torch import Tensor
from triton.language import constexpr

TILE, INNER = 64, 32
PART = 4096  # inner elements of a part


def thin_product(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    """a @ b in fp32; both fp32 on one CUDA device, of any strides. The parts depend on K alone."""
    (rows, inner), columns = a_MK.shape, b_KN.shape[1]
    parts = max(1, triton.cdiv(inner, PART))
    out_SMN = a_MK.new_empty(parts, rows, columns)
    if out_SMN.numel():
        grid = (triton.cdiv(rows, TILE) * triton.cdiv(columns, TILE), parts)
        thin_product_kernel[grid](
            a_MK, b_KN, out_SMN, rows, columns, inner, *a_MK.stride(), *b_KN.stride(),
            LENGTH=PART, BLOCK_M=TILE, BLOCK_N=TILE, BLOCK_K=INNER, num_warps=4, num_stages=3,
        )  # fmt: skip
    return out_SMN[0] if parts == 1 else out_SMN.sum(0)


@triton.jit
def thin_product_kernel(
    a, b, out_SMN, M, N, K, a_row, a_inner, b_inner, b_column,
    LENGTH: constexpr, BLOCK_M: constexpr, BLOCK_N: constexpr, BLOCK_K: constexpr,
):  # fmt: skip
    columns = tl.cdiv(N, BLOCK_N)
    m = (tl.program_id(0) // columns).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (tl.program_id(0) % columns).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    start = tl.program_id(1).to(tl.int64) * LENGTH
    end = tl.minimum(start + LENGTH, K)
    acc_MN = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for at in range(start, end, BLOCK_K):
        live_K = at + k < end
        a_MK = tl.load(a + m[:, None] * a_row + (at + k)[None, :] * a_inner, mask=(m < M)[:, None] & live_K[None, :], other=0.0)
        b_KN = tl.load(
            b + (at + k)[:, None] * b_inner + n[None, :] * b_column, mask=live_K[:, None] & (n < N)[None, :], other=0.0
        )
        acc_MN = tl.dot(a_MK, b_KN, acc_MN, input_precision="tf32x3")
    out = out_SMN + (tl.program_id(1).to(tl.int64) * M + m)[:, None] * N + n[None, :]
    tl.store(out, acc_MN, mask=(m < M)[:, None] & (n < N)[None, :])
