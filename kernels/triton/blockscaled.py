"""Products that the tensor cores scale block by block, which compute capability 10.x does (`tcgen05.mma.block_scale`).

Operands are codes with their inner dimension last, E4M3 bytes (mxfp8) or two E2M1 codes a byte (mxfp4, nvfp4), and a scale for
every B of them: E8M0 for MX, E4M3 for nvfp4. What nvfp4's tensor scales make of the sums stays outside.
"""

import torch
import triton
import triton.language as tl
from triton.language import constexpr

from kernels import precision

FORMATS = ("nvfp4", *precision.MX)


def native(device: torch.device, dials: precision.Quantization | None) -> bool:
    """Whether products of `dials` are multiplied with their block scales on `device`."""
    if dials is None or dials.format == "fp8" or device.type != "cuda":
        return False
    return precision.native(dials.format, dials.keep, torch.cuda.get_device_capability(device))


@triton.jit
def codes_of(values, scale, value_O, scale_O, live_O, at, end, FORMAT: constexpr, B: constexpr, BLOCK_K: constexpr):
    """Bytes of codes (O, BLOCK_K / 2; of mxfp8 BLOCK_K) and scales (O, BLOCK_K / B), from inner element `at` on, a multiple of
    B; zeros from `end` on, a multiple too. `value_O`, `scale_O`: the places of each row's first byte and scale."""
    a_byte: constexpr = 1 if FORMAT == "mxfp8" else 2
    k, n = tl.arange(0, BLOCK_K // a_byte), tl.arange(0, BLOCK_K // B)
    live = live_O[:, None] & (k * a_byte < end - at)[None, :]
    found = tl.load(values + value_O[:, None] + (at // a_byte + k)[None, :], mask=live, other=0.0)
    live = live_O[:, None] & (n * B < end - at)[None, :]
    return found, tl.load(scale + scale_O[:, None] + (at // B + n)[None, :], mask=live, other=0.0)


@triton.jit
def scaled_product(acc_MN, left, left_scale, right, right_scale, FORMAT: constexpr):
    """`acc_MN` + left @ right^T of what `codes_of` loads."""
    element: constexpr = "e4m3" if FORMAT == "mxfp8" else "e2m1"
    return tl.dot_scaled(left, left_scale, element, tl.trans(right), right_scale, element, acc_MN)
