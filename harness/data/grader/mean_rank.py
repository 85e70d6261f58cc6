"""The mean of a document's ranks by the three other graders, so that one that all of them doubt is the worst."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from harness.data.grader.compression import compression
from harness.data.grader.perplexity import perplexity
from harness.data.grader.repetition import repetition

GRADERS = (compression, perplexity, repetition)


def mean_rank(texts: Sequence[bytes]) -> np.ndarray:
    """Ranks are of all documents, in (0, 1]; documents with equal grades share a rank."""
    return np.mean([rankdata(grader(texts)) for grader in GRADERS], axis=0) / max(len(texts), 1)


PART = mean_rank
