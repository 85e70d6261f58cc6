"""How little a document repeats: minus the share of its sequences of words that come elsewhere too, in it or in another one.

Sequences of 8 words, letters lowercased: long enough that fixed phrases of a language are few of them. Of documents that are
copies of each other each one is graded as repeated, the first one too.
"""

from collections.abc import Sequence

import numpy as np

from harness.data.overlap import window_ids

WINDOW_WORDS = 8


def repetition(texts: Sequence[bytes]) -> np.ndarray:
    """From -1 to 0. A document of fewer words repeats nothing."""
    words = [text.lower().split() for text in texts]
    known: dict[bytes, int] = {}
    ids = np.array([known.setdefault(word, len(known)) for some in words for word in some], np.int64)
    document = np.repeat(np.arange(len(texts)), [len(some) for some in words])
    windows = window_ids(ids, WINDOW_WORDS)
    owner = document[: len(windows)]
    inside = owner == document[len(document) - len(windows) :]  # begins and ends in the same document
    _, place, times = np.unique(windows[inside], return_inverse=True, return_counts=True)
    found = np.bincount(owner[inside], minlength=len(texts))
    repeated = np.bincount(owner[inside], weights=times[place] > 1, minlength=len(texts))
    return -repeated / np.maximum(found, 1)


PART = repetition
