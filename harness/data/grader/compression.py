"""How usual a document's compression is: minus the distance of its ratio from the median over all documents.

Each is compressed by deflate (zlib) with other documents as its dictionary, so that the words of the corpus cost little.
What compresses much worse than most is foreign or random, what compresses much better is repeated, in itself or elsewhere: bad
at both ends, as in the filters of The Pile's and Gopher's kind.
"""

import zlib
from collections.abc import Sequence

import numpy as np

DICTIONARY_BYTES = 1 << 15  # as far as deflate looks back


def compression(texts: Sequence[bytes]) -> np.ndarray:
    """Ratios are bits per byte. An empty document has none, and is graded as the worst."""
    dictionaries = [_sampled(texts[half::2]) for half in (0, 1)]
    sizes = np.array([_size(text, dictionaries[1 - number % 2]) for number, text in enumerate(texts)], float)
    lengths = np.array([len(text) for text in texts], float)
    ratios = 8 * sizes / np.maximum(lengths, 1)
    distances = np.abs(ratios - np.median(ratios[lengths > 0])) if lengths.any() else np.zeros(len(texts))
    return -np.where(lengths > 0, distances, distances.max(initial=0))


def _sampled(texts: Sequence[bytes]) -> bytes:
    """Beginnings of documents, evenly spaced, as many as the dictionary takes."""
    some = texts[:: max(1, len(texts) * 1024 // DICTIONARY_BYTES)]
    return b"\n".join(text[:1024] for text in some)[:DICTIONARY_BYTES]


def _size(text: bytes, dictionary: bytes) -> int:
    """Bytes of raw deflate, without header and checksum, whose few bytes would weigh on short documents."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, dictionary)
    return len(packer.compress(text)) + len(packer.flush())


PART = compression
