"""The lowest of a document's ranks by the three other graders: what one of them finds bad is bad, whatever the others say.

Each of them takes some noise for the best text of all (perplexity what is repeated, repetition what is random), which a mean
would forgive. `make grade` prints how well it tells planted noise from text.
"""

from collections.abc import Sequence

import numpy as np

from harness.data.grader.compression import compression
from harness.data.grader.perplexity import perplexity
from harness.data.grader.repetition import repetition

GRADERS = (compression, perplexity, repetition)


def worst_rank(texts: Sequence[bytes]) -> np.ndarray:
    """Ranks are of all documents, in (0, 1]; documents with equal grades share the mean of theirs."""
    return np.min([_ranks(grader(texts)) for grader in GRADERS], axis=0) / max(len(texts), 1)


def _ranks(grades: np.ndarray) -> np.ndarray:
    """From 1, the lowest grade's."""
    _, place, times = np.unique(grades, return_inverse=True, return_counts=True)
    return (np.cumsum(times) - (times - 1) / 2)[place]


PART = worst_rank
