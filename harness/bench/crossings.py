"""Where curves of time over length cross, read off the lengths that were timed: between two of them along the straight line in
logarithms of both.
"""

import math
from itertools import pairwise
from typing import Any


def crossings(rows: list[dict[str, Any]], base: str) -> list[dict[str, Any]]:
    """For each name in `rows` but `base`, at the lengths where both were timed: `faster`, the spans of lengths over which it
    takes less time; `at`, the lengths between two timed ones where that turns, with the time a token of `base` there; `said`,
    a sentence. `rows`: {name, length, us_per_token, ratio (time over the base's)}, those left out without figures."""
    timed = {(row["name"], row["length"]): row for row in rows if "ratio" in row}
    found = []
    for name in dict.fromkeys(name for name, _ in timed if name != base):
        lengths = sorted(length for each, length in timed if each == name and (base, length) in timed)
        if not lengths:
            continue
        turns = _turns(lengths, [timed[name, length]["ratio"] for length in lengths])
        spans = _spans(lengths, turns, timed[name, lengths[0]]["ratio"] < 1)
        costs = [timed[base, length]["us_per_token"] for length in lengths]
        at = [{"length": turn, "us_per_token": _between(turn, lengths, costs)} for turn in turns]
        found.append({"name": name, "faster": spans, "at": at, "said": f"{name} {_said(base, spans, lengths)}"})
    return found


def _turns(lengths: list[int], ratios: list[float]) -> list[float]:
    """Lengths at which a ratio passes 1."""
    found = []
    for (a, before), (b, after) in pairwise(zip(lengths, ratios)):
        if (before < 1) != (after < 1):
            share = math.log(before) / (math.log(before) - math.log(after))
            found.append(a * (b / a) ** share)
    return found


def _spans(lengths: list[int], turns: list[float], faster_first: bool) -> list[tuple[float, float]]:
    ends = [lengths[0], *turns, lengths[-1]]
    return [span for at, span in enumerate(pairwise(ends)) if (at % 2 == 0) == faster_first]


def _between(length: float, lengths: list[int], values: list[float]) -> float:
    for (a, before), (b, after) in pairwise(zip(lengths, values)):
        if a <= length <= b:
            return before * (after / before) ** (math.log(length / a) / math.log(b / a))
    raise AssertionError(f"{length} lies outside of {lengths}")


def _said(base: str, spans: list[tuple[float, float]], lengths: list[int]) -> str:
    first, last = lengths[0], lengths[-1]
    if first == last:
        return f"is {'' if spans else 'not '}faster than {base} at {first:,}, the one length timed"
    if not spans:
        return f"is not faster than {base} within {last:,}"
    if spans == [(first, last)]:
        return f"is faster than {base} at every length timed, {first:,} to {last:,}"
    texts = [
        f"from S = {a:,.0f} on" if b == last else f"up to S = {b:,.0f}" if a == first else f"from S = {a:,.0f} to {b:,.0f}"
        for a, b in spans
    ]
    return f"is faster than {base} {' and '.join(texts)} (interpolated)"
