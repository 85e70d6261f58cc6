"""E4M3 and E2M1 from their bit fields, and rounding to them, in plain Python and numpy: what the formats are tested against."""

from fractions import Fraction

import numpy as np


def e4m3_value(code: int) -> float:
    """Sign, 4 bits of exponent with bias 7, 3 of mantissa; all ones is NaN. Exact as a Python float."""
    sign, exponent, mantissa = -1.0 if code & 0x80 else 1.0, code >> 3 & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return sign * float("nan")
    return sign * (mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10))


def e2m1_value(code: int) -> float:
    """Sign, 2 bits of exponent with bias 1, 1 of mantissa."""
    sign, exponent, mantissa = -1.0 if code & 8 else 1.0, code >> 1 & 3, code & 1
    return sign * (mantissa * 0.5 if exponent == 0 else (2 + mantissa) * 2.0 ** (exponent - 2))


E4M3 = [e4m3_value(code) for code in range(0x7F)]  # magnitudes in the order of their codes, without NaN
E2M1 = [e2m1_value(code) for code in range(8)]


def nearest_code(exact: Fraction, magnitudes: list[float]) -> int:
    """Of a magnitude, by exact distances to every one of the format, ties to the even code."""
    return min(range(len(magnitudes)), key=lambda code: (abs(Fraction(magnitudes[code]) - exact), code % 2))


def nearest(x: float, magnitudes: list[float]) -> float:
    """As `nearest_code`; keeps the sign, of zero too."""
    return float(np.copysign(magnitudes[nearest_code(abs(Fraction(x)), magnitudes)], x))


def nearest_codes(x: np.ndarray, magnitudes: list[float]) -> np.ndarray:
    """The same for an array of finite fp32 magnitudes: their codes, by exact comparison with the midpoints in float64."""
    values = np.array(magnitudes, dtype=np.float64)
    midpoints = (values[:-1] + values[1:]) / 2
    low, high = (np.searchsorted(midpoints, np.abs(x).astype(np.float64), side) for side in ("left", "right"))
    return np.where(low % 2 == 0, low, high)
