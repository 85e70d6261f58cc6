"""The formats below bf16 and the noise of stochastic rounding inside a kernel: the same bits as `kernels.quantize` and
`kernels.noise`, in exact fp32 arithmetic. Values are converted to a format only when they are values of it already.

Codes of all formats are kept as E4M3 bytes: every E2M1 value is one, and the hardware converts them. MX's scales are E8M0
bytes, which count powers of two from 2^-127; 255 is NaN."""

import struct

import triton
import triton.language as tl
from triton.language import constexpr

from kernels.formats import E2M1, E4M3
from kernels.noise import COLUMN, ROW
from kernels.quantize import SIXTH

_UNSIGNED = 0xFFFFFFFF
_ROW, _COLUMN = constexpr(ROW & _UNSIGNED), constexpr(COLUMN & _UNSIGNED)
_SIXTH_32 = constexpr(SIXTH)
_E4M3_LARGEST, _E2M1_LARGEST = constexpr(E4M3.largest), constexpr(E2M1.largest)
_E4M3_BITS, _E2M1_BITS = (constexpr(struct.unpack("<i", struct.pack("<f", f.largest))[0]) for f in (E4M3, E2M1))
_WHOLE = constexpr(2.0**23)  # from here on fp32 holds whole numbers only


@triton.jit
def magnitude_bits(x):
    """fp32 -> int32 in the order of |x|, infinity and NaN last: a maximum of them loses no NaN."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def _on_grid(x, step, inverse, LARGEST: constexpr, noise, STOCHASTIC: constexpr):
    """fp32 `x` in whole steps, ties to even, or as `kernels.formats` rounds with noise; `step` and its inverse are powers of
    two, so that both products are exact."""
    units = tl.abs(x) * inverse
    if STOCHASTIC:
        below = tl.floor(units)
        units = below + (noise >= 1.0 - (units - below)).to(tl.float32)
    else:
        units = (units + _WHOLE) - _WHOLE
    size = tl.minimum(units * step, LARGEST, propagate_nan=tl.PropagateNan.ALL)
    sign = x.to(tl.int32, bitcast=True) & -0x80000000
    return (size.to(tl.int32, bitcast=True) | sign).to(tl.float32, bitcast=True)


@triton.jit
def round_e4m3(x, noise, STOCHASTIC: constexpr):
    power = x.to(tl.int32, bitcast=True) & 0x7F800000
    step = tl.minimum(tl.maximum(power, 121 << 23), 254 << 23) - (3 << 23)  # of 2^-6 to 2^127
    inverse = (254 << 23) - step
    return _on_grid(
        x, step.to(tl.float32, bitcast=True), inverse.to(tl.float32, bitcast=True), _E4M3_LARGEST, noise, STOCHASTIC
    )


@triton.jit
def round_e2m1(x, noise, STOCHASTIC: constexpr):
    size = tl.abs(x)
    step = tl.where(size < 2.0, 0.5, tl.where(size < 4.0, 1.0, 2.0))
    inverse = tl.where(size < 2.0, 2.0, tl.where(size < 4.0, 1.0, 0.5))
    return _on_grid(x, step, inverse, _E2M1_LARGEST, noise, STOCHASTIC)


@triton.jit
def quantized(x, amax, tensor_scale, noise, FORMAT: constexpr, CLIP: constexpr, STOCHASTIC: constexpr):
    """Values of the format as fp32, and the scale of each block: fp32, of MX an int32 E8M0 code. `amax` of the blocks
    broadcasts to fp32 `x`; `tensor_scale` is nvfp4's."""
    if FORMAT == "fp8":
        scale = tl.div_rn(amax * CLIP, 448.0)
        value = round_e4m3(tl.where(scale == 0.0, 0.0, tl.div_rn(x, scale)), noise, STOCHASTIC)
    elif FORMAT == "mxfp8":
        scale = _e8m0(amax * CLIP, _E4M3_BITS)
        value = round_e4m3(x * _inverse(scale), noise, STOCHASTIC)
    elif FORMAT == "mxfp4":
        scale = _e8m0(amax * CLIP, _E2M1_BITS)
        value = round_e2m1(x * _inverse(scale), noise, STOCHASTIC)
    else:
        wanted = tl.minimum(amax * CLIP * (tensor_scale * _SIXTH_32), 448.0, propagate_nan=tl.PropagateNan.ALL)
        scale = round_e4m3(wanted, 0.0, False)
        value = round_e2m1(tl.where(scale == 0.0, 0.0, x * tl.div_rn(tensor_scale, scale)), noise, STOCHASTIC)
    return value, scale


@triton.jit
def _e8m0(amax, LARGEST: constexpr):
    """int32 codes of `kernels.quantize.mx_scale`; LARGEST: the bits of the element's largest magnitude."""
    bits = amax.to(tl.int32, bitcast=True)
    above = ((bits & 0x7FFFFF) > (LARGEST & 0x7FFFFF)).to(tl.int32)
    code = (bits >> 23) - (LARGEST >> 23) + 127 + above
    return tl.where(bits >= 0x7F800000, 255, tl.minimum(tl.maximum(code, 0), 253))


@triton.jit
def _inverse(code):
    """fp32: one over what an E8M0 code says, NaN of NaN."""
    return tl.where(code == 255, 0x7FC00000, (254 - code) << 23).to(tl.float32, bitcast=True)


@triton.jit
def scales(found):
    """What E8M0 codes, which are uint8, say, in fp32; other scales as they are."""
    if found.dtype == tl.uint8:
        code = found.to(tl.int32)
        bits = tl.where(code == 0, 1 << 22, code << 23)
        said = tl.where(code == 255, 0x7FC00000, bits).to(tl.float32, bitcast=True)
    else:
        said = found
    return said


@triton.jit
def packed(value_OI, OUTER: constexpr, INNER: constexpr):
    """uint8 (OUTER, INNER / 2): two E2M1 codes a byte, the first in the lower half; `value_OI` holds values of the format."""
    bits = value_OI.to(tl.int32, bitcast=True)
    size = tl.abs(value_OI)
    code = tl.where(size < 1.0, (size * 2.0).to(tl.int32), ((bits & 0x7FFFFFFF) >> 22) - 252)  # 0, 0.5, and from 1 on
    code = (code & 7) | ((bits >> 28) & 8)
    low, high = tl.split(tl.reshape(code, (OUTER, INNER // 2, 2)))
    return (low | (high << 4)).to(tl.uint8)


@triton.jit
def _mix(x):
    """uint32 -> uint32, `kernels.noise.mix`."""
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def noise_word(key_4, TENSOR: constexpr):
    """`kernels.noise.word` of the tensor whose place in TENSORS is `TENSOR`."""
    found = tl.full((1,), TENSOR + 1, tl.uint32)
    for i in tl.static_range(4):
        found = _mix(found * _ROW + tl.load(key_4 + i).to(tl.uint32))
    return found


@triton.jit
def uniform(word, row, column):
    """`kernels.noise.uniform`; `row` and `column` broadcast."""
    bits = _mix(_mix(row.to(tl.uint32) * _ROW + word) + column.to(tl.uint32) * _COLUMN)
    return (bits >> 8).to(tl.float32) * (2.0**-24)
