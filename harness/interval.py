"""Wilson's score interval (1927) at 95%: what `right` of `n` answers say of the share that would be right of all."""

import math

Z = 1.959963984540054  # the normal distribution's 97.5%


def wilson(right: int, n: int) -> tuple[float, float]:
    """(low, high) within [0, 1]."""
    share, spread = right / n, Z * Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
