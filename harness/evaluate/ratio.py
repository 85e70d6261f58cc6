"""A mean over tokens, whose error counts instances: tokens of one instance are not independent."""

import numpy as np


def ratio(sum_B: np.ndarray, count_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ratio of the totals of (B, ...), and its variance over B instances, linearised (Cochran 1977, section 6.4); NaN where
    nothing was counted."""
    sum_B, count_B = np.asarray(sum_B, np.float64), np.asarray(count_B, np.float64)
    instances, total = len(sum_B), count_B.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = sum_B.sum(0) / total
        variance = instances / max(instances - 1, 1) * ((sum_B - value * count_B) ** 2).sum(0) / total**2
    return value, variance
