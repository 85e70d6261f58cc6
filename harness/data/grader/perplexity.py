"""How well other documents foretell a document: minus the bits per byte of a model of byte n-grams (`harness/data/ngram.py`).

The model is counted on one half of the documents and grades the other one, as CCNet grades pages by a model of Wikipedia
(Wenzek et al. 2020). What is repeated elsewhere is foretold best: this grader takes it for the best of all.
"""

from collections.abc import Sequence

import numpy as np

from harness.data import ngram

LONGEST_CONTEXT = 4  # bytes
FITTED_BYTES = 1 << 21  # of each half: more does not change the order by much, and takes longer
SEPARATOR = b"\n"


def perplexity(texts: Sequence[bytes]) -> np.ndarray:
    """An empty document is graded as the worst one."""
    found = np.empty(len(texts))
    for half in (0, 1):
        others = np.frombuffer(_sampled(texts[1 - half :: 2]), np.uint8)
        found[half::2] = _bits_per_byte(others, texts[half::2])
    return -np.where(np.isnan(found), np.nanmax(found, initial=0), found)


def _sampled(texts: Sequence[bytes]) -> bytes:
    """Whole documents, evenly spaced, of about FITTED_BYTES."""
    total = sum(map(len, texts))
    return SEPARATOR.join(texts[:: max(1, -(-total // FITTED_BYTES))])


def _bits_per_byte(others: np.ndarray, texts: Sequence[bytes]) -> np.ndarray:
    """The mean over each text's bytes; NaN of one without any."""
    lengths = np.array([len(text) for text in texts], int)
    bits = ngram.bits(others, np.frombuffer(SEPARATOR + SEPARATOR.join(texts), np.uint8), LONGEST_CONTEXT)
    ends = np.cumsum(lengths + len(SEPARATOR)) - len(SEPARATOR)
    before = np.concatenate([[0.0], np.cumsum(bits)])
    with np.errstate(invalid="ignore"):
        return (before[ends] - before[ends - lengths]) / np.where(lengths, lengths, np.nan)


PART = perplexity
