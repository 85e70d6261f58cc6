"""Graders of documents: a file each, which ends with `PART`, a function that grades all documents of a train at once.

    PART(texts) -> np.ndarray

`texts`: the bytes of each document, in their order, of which a grader may compare any with the others. One float64 a document,
finite; more is better. It is told neither which documents are noise nor which are of which source.
"""

from collections.abc import Sequence

import numpy as np

from harness.plan import parts


def graded(name: str, texts: Sequence[bytes]) -> np.ndarray:
    """The grade of each text by this grader."""
    found = np.asarray(parts.part("grader", name)(texts), np.float64)
    assert found.shape == (len(texts),) and np.isfinite(found).all(), (name, found.shape, len(texts))
    return found
