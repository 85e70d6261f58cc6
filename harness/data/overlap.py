"""Which bytes of val are new: in no sequence of 13 words that train has too.

Val is a held-out set only where it is not a copy. Thirteen words is the length of the GPT-3 paper's overlap analysis (arXiv
2005.14165, appendix C), and the score on the clean part stands beside the score on all of val.
"""

from typing import Protocol

import numpy as np

from harness.data.artifact import derived

WINDOW_WORDS = 13
METHOD = 1  # part of the cache key: raise it when the mask is computed in another way


class Splits(Protocol):
    """A corpus of bytes: train and val uint8, hashes of both."""

    train: np.ndarray
    val: np.ndarray
    hashes: dict[str, str]


def clean(corpus: Splits) -> np.ndarray:
    """`clean_mask` of a corpus, bool, one per byte of val, cached by the hashes of both splits (packed, 8 to a byte)."""
    key = {"method": METHOD, "window_words": WINDOW_WORDS, **corpus.hashes}
    packed = derived("clean", key, lambda: np.packbits(clean_mask(corpus.train, corpus.val)))
    return np.unpackbits(packed, count=len(corpus.val)).astype(bool)


def clean_mask(train: np.ndarray, val: np.ndarray, window_words: int = WINDOW_WORDS) -> np.ndarray:
    """Bool per byte of val, False from the first to the last byte of every window of words that occurs in train.

    Words are what lies between ASCII white space, ASCII letters lowercased; both inputs are uint8, 1-D. The answer is exact:
    no hashing, so no collisions. About 2 s for 12 MB.
    """
    train_words, val_words = train.tobytes().lower().split(), val.tobytes().lower().split()
    known: dict[bytes, int] = {}
    ids = np.array([known.setdefault(word, len(known)) for word in train_words + val_words], np.int64)
    windows = window_ids(ids, window_words)
    in_train = windows[: max(len(train_words) - window_words + 1, 0)]
    in_val = windows[len(train_words) :]  # the windows between the two would straddle the seam
    shared = np.flatnonzero(np.isin(in_val, in_train))

    return outside(val, shared, window_words)


def outside(text: np.ndarray, windows: np.ndarray, window_words: int) -> np.ndarray:
    """Bool per byte of `text` (uint8): in none of the windows of words with these numbers, from first to last byte."""
    starts, ends = word_spans(text)
    depth = np.zeros(len(text) + 1, np.int64)  # how many of the windows cover a byte, as a running sum
    np.add.at(depth, starts[windows], 1)
    np.add.at(depth, ends[windows + window_words - 1], -1)
    return np.cumsum(depth[:-1]) == 0


def window_ids(ids: np.ndarray, window_words: int) -> np.ndarray:
    """One int64 per window of consecutive word ids, equal exactly where the windows are.

    Doubles the length while it fits, then lets two windows overlap: 13 words are the 8 from the first and the 8 that end at
    the last. Pairs are renumbered from 0, so that two numbers always fit in one int64.
    """
    length = 1
    while length < window_words:
        step = min(length, window_words - length)
        if len(ids) <= step:
            return ids[:0]
        pairs = (ids[:-step] << 32) | ids[step:]
        ids = np.unique(pairs, return_inverse=True)[1]
        length += step
    return ids


def word_spans(text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First byte, and the byte after the last, of every word of `text`; two int64 arrays."""
    white = np.zeros(256, bool)
    white[list(b" \t\n\r\x0b\x0c")] = True  # what bytes.split() splits on
    edge = np.concatenate([[True], white[text], [True]])
    starts = np.flatnonzero(edge[:-1] & ~edge[1:])
    ends = np.flatnonzero(~edge[:-1] & edge[1:])
    return starts, ends
