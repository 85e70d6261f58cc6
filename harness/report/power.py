"""The power of a one-sided t test: how large a difference must be for n values to find it, and how often they then do.

Of n values with standard deviation sd, t = mean / (sd / sqrt(n)) has n - 1 degrees of freedom, and the noncentrality
shift / (sd / sqrt(n)) where the true mean is `shift` (Johnson and Welch, 1940). Assumed is a normal spread, and an sd that is
known beforehand.
"""

import math

from scipy.special import nctdtr, nctdtrinc, stdtrit

POWER = 0.8  # that is stated wherever none is named


def critical(n: int, alpha: float) -> float:
    """What t of n values must exceed at one-sided `alpha`."""
    return float(stdtrit(n - 1, 1 - alpha))


def power(n: int, shift: float, sd: float, alpha: float) -> float:
    """How often n values find a true mean of `shift` above 0."""
    return 1 - float(nctdtr(n - 1, shift / sd * math.sqrt(n), critical(n, alpha)))


def detectable(n: int, sd: float, alpha: float, wanted: float = POWER) -> float:
    """The smallest true mean above 0 that n values find so often."""
    return float(nctdtrinc(n - 1, 1 - wanted, critical(n, alpha))) * sd / math.sqrt(n)
