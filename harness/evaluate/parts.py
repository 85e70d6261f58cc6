"""Scores of parts of val, by source, and of texts that stand beside it, such as val's own passages in noise: nats, bytes, and
of a text that is scored for itself the rows of each expert, so that it can be seen who takes them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness.evaluate.bpb import NATS_PER_BIT, Score


def part_scores(
    final: Score, parts: Mapping[str, slice], beside: Mapping[str, np.ndarray], score: Callable[[np.ndarray], Score]
) -> dict[str, dict[str, Any]]:
    """`final`: of val, or of its first part; a part of val is scored as far as that goes, and left out where it does not reach
    it. `score` scores a text. Every token is a byte. By name, what `harness/record/rows.py` has as PartScore."""
    found = {}
    for name, place in parts.items():
        nats_N = final.nats_N[max(place.start - 1, 0) : place.stop - 1]  # at index token - 1
        if len(nats_N):
            found[name] = {"nats": float(nats_N.sum()), "bytes": len(nats_N)}
    for name, text in beside.items():
        scored = score(text)
        nats, size = scored.sums()
        found[name] = {"nats": nats, "bytes": size, "counts": scored.count_LE.tolist()}
    return found


def bits(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Bits per byte of each part."""
    return {name: part["nats"] / (NATS_PER_BIT * part["bytes"]) for name, part in parts.items()}
