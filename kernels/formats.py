"""The two number formats below bf16: which values they have, and rounding to them.

| | E4M3 | E2M1 |
|---|---|---|
| bits: sign, exponent, mantissa | 1, 4, 3 | 1, 2, 1 |
| magnitudes | 0, 2^-9 to 448 | 0, 0.5, 1, 1.5, 2, 3, 4, 6 |
| NaN, infinity | NaN (code 0x7F and 0xFF), none | neither |

E4M3 is `torch.float8_e4m3fn`; E2M1 the OCP MX specification's FP4. Rounding is to nearest, ties to the even code, or
up with a probability of the distance from below (`noise`). What lies above the largest value becomes the largest
(saturation). NaN stays NaN in E4M3; in E2M1, which has none, it stays NaN in the rounded fp32 value, so that nothing
becomes finite silently.

Every function is a handful of exact fp32 operations, so eager and compiled results are equal; `encode` and `decode` turn
values into codes and back.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_EXPONENT_BITS = 0x7F800000


@dataclass(frozen=True)
class Format:
    """`largest` magnitude; `round(x, noise)`: fp32 values of the format, `noise` fp32 in [0, 1) of x's shape or None
    for the nearest; `encode(values) -> uint8`, `decode(codes) -> fp32` (one code a byte)."""

    name: str
    largest: float
    smallest: float
    round: Callable[[Tensor, Tensor | None], Tensor]
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def _on_grid(x: Tensor, step: Tensor, largest: float, noise: Tensor | None) -> Tensor:
    """`x` in whole steps; `step`, a power of two, is the spacing of the values around x. Division by it is exact.

    Up where `noise` reaches 1 - share; floor(units + noise) rounds that sum, and would lift values that need no rounding.
    """
    units = x.abs() / step
    if noise is None:
        units = torch.round(units)
    else:
        below = torch.floor(units)
        units = below + (noise >= 1 - (units - below))
    return torch.copysign((units * step).clamp(max=largest), x)


def round_e4m3(x: Tensor, noise: Tensor | None = None) -> Tensor:
    """fp32 `x` to E4M3 values, as fp32. 2^-6 is the smallest normal value; below it the spacing stays 2^-9."""
    power = (x.view(torch.int32) & _EXPONENT_BITS).view(torch.float32)  # 2^floor(log2 |x|); infinite for NaN and infinity
    return _on_grid(x, power.clamp(2.0**-6, 2.0**127) * 0.125, 448.0, noise)


def round_e2m1(x: Tensor, noise: Tensor | None = None) -> Tensor:
    """fp32 `x` to E2M1 values, as fp32."""
    magnitude = x.abs()
    step = torch.where(magnitude < 2.0, 0.5, torch.where(magnitude < 4.0, 1.0, 2.0))
    return _on_grid(x, step, 6.0, noise)


def _encode_e4m3(values: Tensor) -> Tensor:
    return values.to(torch.float8_e4m3fn).view(torch.uint8)


def _decode_e4m3(codes: Tensor) -> Tensor:
    return codes.view(torch.float8_e4m3fn).float()


def _encode_e2m1(values: Tensor) -> Tensor:
    """
    Raises:
        ValueError: NaN, which E2M1 cannot hold.
    """
    if bool(values.isnan().any()):
        raise ValueError("E2M1 has no NaN, but the values to encode hold one")
    bounds = torch.tensor([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], device=values.device)
    magnitude = torch.bucketize(values.abs(), bounds, right=True).to(torch.uint8)
    return magnitude | (torch.signbit(values).to(torch.uint8) << 3)


def _decode_e2m1(codes: Tensor) -> Tensor:
    table = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], device=codes.device)
    return torch.cat([table, -table]).index_select(0, codes.reshape(-1).int()).view(codes.shape)


E4M3 = Format("e4m3", 448.0, 2.0**-9, round_e4m3, _encode_e4m3, _decode_e4m3)
E2M1 = Format("e2m1", 6.0, 0.5, round_e2m1, _encode_e2m1, _decode_e2m1)
