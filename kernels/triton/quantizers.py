"""Quantizers as kernels: rows and weights in blocks of a product's inner dimension, and weight-gradient factors in blocks of
rows of one expert.

Letters as in `kernels.triton.products`; I inner and O outer dimension of a product, P slots: an expert's rows padded to whole
blocks of 16 (MX: 32), in fp8 B blocks of 128, S. Codes are E4M3 bytes, inner dimension last, as the products read them, but of
slots_kernel (see `kernels.triton.numbers`)."""

import triton
import triton.language as tl

from kernels.triton.numbers import magnitude_bits, noise_word, packed, quantized, uniform


@triton.jit
def blocks_kernel(
    x_EOI, codes_EOI, scale, tensor_scale, key_4, name_O, expert_stride, outer_stride, inner_stride, OUTER,
    INNER: tl.constexpr, FORMAT: tl.constexpr, CLIP: tl.constexpr, STOCHASTIC: tl.constexpr, TENSOR: tl.constexpr,
    NAMED: tl.constexpr, BY_EXPERT: tl.constexpr, BY_ROW: tl.constexpr, LENGTH: tl.constexpr, WIDE: tl.constexpr,
    PACKED: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Blocks of LENGTH inner and WIDE outer elements; scale (E, O/WIDE, I/LENGTH); with PACKED two codes a byte. A row of
    activations is an outer index of one expert. With NAMED the noise counts row o as name_O[o]. `tensor_scale` is one, or of
    every expert or, with BY_ROW, of every outer index (of WIDE 1)."""
    tiles_I: tl.constexpr = (INNER + BLOCK_I - 1) // BLOCK_I
    tiles_O = tl.cdiv(OUTER, BLOCK_O)
    expert = (tl.program_id(0) // (tiles_I * tiles_O)).to(tl.int64)
    first_O = (tl.program_id(0) // tiles_I % tiles_O).to(tl.int64) * BLOCK_O
    o, i = tl.arange(0, BLOCK_O), tl.program_id(0) % tiles_I * BLOCK_I + tl.arange(0, BLOCK_I)
    live_O, live_I = o < OUTER - first_O, i < INNER
    live = live_O[:, None] & live_I[None, :]
    x = x_EOI + expert * expert_stride + first_O * outer_stride
    x_OI = tl.load(x + o[:, None].to(tl.int64) * outer_stride + i[None, :].to(tl.int64) * inner_stride, mask=live, other=0.0)
    count_O: tl.constexpr = BLOCK_O // WIDE
    count_I: tl.constexpr = BLOCK_I // LENGTH
    x_4 = tl.reshape(x_OI.to(tl.float32), (count_O, WIDE, count_I, LENGTH))
    bits = tl.max(tl.max(magnitude_bits(x_4), axis=3), axis=1)
    amax_4 = bits.to(tl.float32, bitcast=True)[:, None, :, None]
    noise_4 = 0.0
    if STOCHASTIC:
        name = tl.load(name_O + first_O + o, mask=live_O, other=0) if NAMED else first_O + o
        noise_OI = uniform(noise_word(key_4, TENSOR)[:, None], name[:, None], i[None, :])
        noise_4 = tl.reshape(noise_OI, (count_O, WIDE, count_I, LENGTH))
    if FORMAT != "nvfp4":
        whole = 1.0
    elif BY_ROW:
        whole = tl.load(tensor_scale + first_O + o, mask=live_O, other=1.0)[:, None, None, None]
    else:
        whole = tl.load(tensor_scale + expert * BY_EXPERT)
    value_4, scale_4 = quantized(x_4, amax_4, whole, noise_4, FORMAT, CLIP, STOCHASTIC)
    value_OI = tl.reshape(value_4, (BLOCK_O, BLOCK_I))
    if PACKED:
        codes = codes_EOI + (expert * OUTER + first_O) * (INNER // 2)
        j = tl.program_id(0) % tiles_I * (BLOCK_I // 2) + tl.arange(0, BLOCK_I // 2)
        live = live_O[:, None] & (j < INNER // 2)[None, :]
        tl.store(codes + o[:, None] * (INNER // 2) + j[None, :], packed(value_OI, BLOCK_O, BLOCK_I), mask=live)
    else:
        codes = codes_EOI + (expert * OUTER + first_O) * INNER
        tl.store(codes + o[:, None] * INNER + i[None, :], value_OI.to(tl.float8e4nv), mask=live)
    blocks: tl.constexpr = INNER // LENGTH
    n, m = tl.arange(0, count_O), tl.program_id(0) % tiles_I * count_I + tl.arange(0, count_I)
    found = scale + (expert * OUTER + first_O) // WIDE * blocks + n[:, None] * blocks + m[None, :]
    live = (n * WIDE < OUTER - first_O)[:, None] & (m < blocks)[None, :]
    tl.store(found, tl.reshape(scale_4, (count_O, count_I)).to(scale.dtype.element_ty), mask=live)


@triton.jit
def slots_kernel(
    x, codes_PI, scale, tile_amax, tensor_scale, key_4, row_R, start_E1, tile_expert_B, tile_row_B, slots,
    WIDTH: tl.constexpr, K: tl.constexpr, BY_TOKEN: tl.constexpr, HADAMARD: tl.constexpr, SIGNS: tl.constexpr,
    CLIP: tl.constexpr, STOCHASTIC: tl.constexpr, TENSOR: tl.constexpr, SURVEY: tl.constexpr, BY_EXPERT: tl.constexpr,
    FORMAT: tl.constexpr, LENGTH: tl.constexpr, BY_COLUMN: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """A factor of a weight gradient in nvfp4 or MX: one block of LENGTH slots (tiles of `routes(..., LENGTH)`), some columns.
    With SURVEY only the largest magnitude of the tile is written; else codes, and scale (P/LENGTH, I). x lies by token or by
    row. `tensor_scale`, nvfp4's, is one, or of every expert. The transform is of every 16 rows. With BY_COLUMN, for products
    that take block scales, codes lie (I, P), two E2M1 ones a byte, and scales (I, P/LENGTH); P is `slots`.

    The transform's sums are exact where the 16 rows span fewer than 12 binary orders of bf16."""
    columns: tl.constexpr = (WIDTH + BLOCK_I - 1) // BLOCK_I
    tile = (tl.program_id(0) // columns).to(tl.int64)
    i = tl.program_id(0) % columns * BLOCK_I + tl.arange(0, BLOCK_I)
    live_I = i < WIDTH
    expert, first = tl.load(tile_expert_B + tile), tl.load(tile_row_B + tile)
    r = tl.arange(0, LENGTH)
    live_R = (expert >= 0) & (r < tl.load(start_E1 + tl.maximum(expert, 0) + 1) - first)
    at_R = first + r
    if BY_TOKEN:
        at_R = tl.load(row_R + at_R, mask=live_R, other=0) // K
    x_RI = tl.load(x + at_R[:, None] * WIDTH + i[None, :], mask=live_R[:, None] & live_I[None, :], other=0.0)
    if HADAMARD:
        c = tl.arange(0, LENGTH)
        odd = (0x6996 >> (r[:, None] & c[None, :] & 15)) ^ (SIGNS >> (c & 15))[None, :]  # parity of the common bits; the sign
        h_RC = 0.25 - 0.5 * (odd & 1).to(tl.float32)
        if LENGTH > 16:
            h_RC = tl.where((r // 16)[:, None] == (c // 16)[None, :], h_RC, 0.0)
        h_RC = h_RC.to(x_RI.dtype)
        x_RI = tl.dot(h_RC, x_RI, input_precision="ieee")
    x_RI = x_RI.to(tl.float32)
    bits_I = tl.max(magnitude_bits(x_RI), axis=0)
    if SURVEY:
        tl.store(tile_amax + tl.program_id(0), tl.max(bits_I, axis=0).to(tl.float32, bitcast=True))
    else:
        noise_RI = 0.0
        if STOCHASTIC:
            noise_RI = uniform(noise_word(key_4, TENSOR)[:, None], (tile * LENGTH + r)[:, None], i[None, :])
        amax_RI = bits_I.to(tl.float32, bitcast=True)[None, :]
        whole = tl.load(tensor_scale + tl.maximum(expert, 0) * BY_EXPERT) if FORMAT == "nvfp4" else 1.0
        value_RI, scale_RI = quantized(x_RI, amax_RI, whole, noise_RI, FORMAT, CLIP, STOCHASTIC)
        scale_I = tl.reshape(scale_RI, (BLOCK_I,)).to(scale.dtype.element_ty)
        if BY_COLUMN:
            at_I, value_IR = i.to(tl.int64), tl.trans(value_RI)
            if FORMAT == "mxfp8":
                out = codes_PI + at_I[:, None] * slots + tile * LENGTH + r[None, :]
                tl.store(out, value_IR.to(tl.float8e4nv), mask=live_I[:, None] & (r >= 0)[None, :])
            else:
                j = tl.arange(0, LENGTH // 2)
                out = codes_PI + at_I[:, None] * (slots // 2) + tile * (LENGTH // 2) + j[None, :]
                tl.store(out, packed(value_IR, BLOCK_I, LENGTH), mask=live_I[:, None] & (j >= 0)[None, :])
            tl.store(scale + at_I * (slots // LENGTH) + tile, scale_I, mask=live_I)
        else:
            out = codes_PI + tile * LENGTH * WIDTH + r[:, None] * WIDTH + i[None, :]
            tl.store(out, value_RI.to(tl.float8e4nv), mask=(r >= 0)[:, None] & live_I[None, :])
            tl.store(scale + tile * WIDTH + i, scale_I, mask=live_I)


@triton.jit
def tiles_kernel(
    x, codes_BIS, scale_BI, key_4, row_R, start_E1, tile_expert_B, tile_row_B,
    WIDTH: tl.constexpr, K: tl.constexpr, BY_TOKEN: tl.constexpr, CLIP: tl.constexpr, STOCHASTIC: tl.constexpr,
    TENSOR: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """A factor of a weight gradient in fp8: one block of slots (tiles of `routes(..., BLOCK_S)`), some columns. x lies by token
    or by row."""
    columns: tl.constexpr = (WIDTH + BLOCK_I - 1) // BLOCK_I
    tile = (tl.program_id(0) // columns).to(tl.int64)
    i = tl.program_id(0) % columns * BLOCK_I + tl.arange(0, BLOCK_I)
    live_I = i < WIDTH
    expert, first = tl.load(tile_expert_B + tile), tl.load(tile_row_B + tile)
    s = tl.arange(0, BLOCK_S)
    live_S = (expert >= 0) & (s < tl.load(start_E1 + tl.maximum(expert, 0) + 1) - first)
    at_S = first + s
    if BY_TOKEN:
        at_S = tl.load(row_R + at_S, mask=live_S, other=0) // K
    x_IS = tl.load(x + at_S[None, :] * WIDTH + i[:, None], mask=live_I[:, None] & live_S[None, :], other=0.0).to(tl.float32)
    amax_I = tl.max(magnitude_bits(x_IS), axis=1).to(tl.float32, bitcast=True)
    noise_IS = 0.0
    if STOCHASTIC:
        noise_IS = uniform(noise_word(key_4, TENSOR)[:, None], (tile * BLOCK_S + s)[None, :], i[:, None])
    value_IS, scale_I1 = quantized(x_IS, amax_I[:, None], 1.0, noise_IS, "fp8", CLIP, STOCHASTIC)
    out_IS = codes_BIS + (tile * WIDTH + i[:, None]) * BLOCK_S + s[None, :]
    tl.store(out_IS, value_IS.to(tl.float8e4nv), mask=live_I[:, None] & (s >= 0)[None, :])
    tl.store(scale_BI + tile * WIDTH + i, tl.reshape(scale_I1, (BLOCK_I,)), mask=live_I)


@triton.jit
def maxima_kernel(amax_N, start_E1, amax_E, BLOCK: tl.constexpr):
    """The largest of each expert's entries of `amax_N`, magnitudes: NaN if one is, 0 of none."""
    expert = tl.program_id(0)
    end = tl.load(start_E1 + expert + 1)
    found = tl.zeros((BLOCK,), tl.int32)
    for at in range(tl.load(start_E1 + expert), end, BLOCK):
        n = at + tl.arange(0, BLOCK)
        found = tl.maximum(found, magnitude_bits(tl.load(amax_N + n, mask=n < end, other=0.0)))
    tl.store(amax_E + expert, tl.max(found, axis=0).to(tl.float32, bitcast=True))
