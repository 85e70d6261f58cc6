"""The budget of a candidate, fixed before its fresh seeds are run.

A search sees one seed of a plan, somewhere near the line. Its slice falls by `slope` bits per ln(seconds), and seconds are as
its tokens are, so the mean of many seeds lies `margin` below the level after

    tokens * exp((slice + margin - level) / slope)

tokens, rounded to whole steps. The margin is what n seeds need for p < ALPHA, POWER of the time, at the sd that is known. The
best of many trials was lucky on average: expect less of fresh seeds than the slice says.
"""

import math

from harness.errors import UserError
from harness.record.confirmations import Fit

MOST = 8.0  # times as many tokens, or as few: further than that a slope says nothing
LONGER = 1.02  # at least, after the line was missed


def fitted(
    of: str,
    tokens: int,
    slice: float,
    seeds: int,
    *,
    slope: float,
    margin: float,
    level: float,
    step: int,
    missed: bool = False,
) -> Fit:
    """`of`: what was run with these `tokens`; `step`: tokens of a step; `missed`: the line was, and the budget must grow.

    Raises:
        UserError: it lies so far from the line that the slope says nothing.
    """
    factor = math.exp((slice + margin - level) / slope)
    if missed:
        factor = max(factor, LONGER)
    if not 1 / MOST <= factor <= MOST:
        raise UserError(
            f"{of} came to {slice:.4f}, the line is {level:.4f}: at {slope:.3f} bits per ln(seconds) its budget would be "
            f"{factor:.3g} times {tokens:,} tokens, which is no fit",
            f"name a trial nearer to the line (trial=N), or keep its budget: fit=no (within {MOST:g} times it is fitted)",
        )
    wanted = tokens * factor
    steps = math.ceil(wanted / step) if missed else max(1, round(wanted / step))
    return Fit(
        of=of, tokens_before=tokens, slice=slice, seeds=seeds, slope=slope, margin=margin, level=level, tokens=steps * step
    )


def fit_text(fit: Fit) -> str:
    return (
        f"budget: {fit.of} came to {fit.slice:.4f} after {fit.tokens_before:,} tokens; for {fit.margin:.4f} below the line's "
        f"{fit.level:.4f}, at {fit.slope:.3f} bits per ln(seconds): {fit.tokens:,} tokens, which every fresh seed is given"
    )
