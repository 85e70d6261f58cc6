"""Asynchronous successive halving (Li et al. 2018, without later promotion): at a rung a trial goes on or ends, at once.

Trials of an arm are compared with each other alone, at the same rung, by figures of whole decayed schedules. The first trial,
where its family starts, always goes on: it gives the slope that all others are measured with.
"""

import math
from collections.abc import Sequence


def goes_on(figure: float, others: Sequence[float], reduction: int) -> bool:
    """Whether it is among the best ceil(n / reduction) of the n trials that have a figure at this rung, itself among them."""
    better = sum(other < figure for other in others)
    return better < math.ceil((len(others) + 1) / reduction)


def expected(trials: int, rungs: int, reduction: int) -> list[float]:
    """How many of so many trials reach each rung, were they drawn from one urn: of the i-th that comes to a rung a share of
    ceil(i / reduction) / i goes on."""
    found = [float(trials)]
    for _ in range(rungs - 1):
        whole = int(round(found[-1]))
        found.append(sum(math.ceil(i / reduction) / i for i in range(1, whole + 1)))
    return found
