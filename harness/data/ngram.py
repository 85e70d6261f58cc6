"""The 7-gram line: a byte model that only counts, the strongest classical line on the slice.

Witten-Bell interpolation (Witten and Bell 1991, "The zero-frequency problem", method C, in the recursive form of Chen and
Goodman 1998, section 2.5): for contexts h of 0 to 6 bytes, h' = h without its first byte, P_{-1} = 1/256,

    P_k(c|h) = (count(hc) + distinct(h) P_{k-1}(c|h')) / (count(h) + distinct(h))

count(h) counts h where a byte follows it, distinct(h) the different bytes that follow it, so P_k sums to one. A context that
train never shows is skipped: P_k = P_{k-1}.
"""

import numpy as np

LONGEST_CONTEXT = 6  # bytes; with the byte to predict, 7 bytes fit in a uint64
BITS_PER_BYTE = np.uint64(8)


def bits(train: np.ndarray, text: np.ndarray, longest_context: int = LONGEST_CONTEXT) -> np.ndarray:
    """-log2 P of every byte of `text` but the first, float64, in a model counted on `train` (both uint8, 1-D).

    The first byte of `text` is not scored but serves as context; the bytes after it have contexts no longer than the text
    before them. Counts come from one sort per order: the grams that begin with h are a range of the sorted grams of train.
    """
    assert longest_context < 8, "a context and its next byte must fit in a uint64"
    probability = np.full(len(text), 1 / 256)
    train_grams, text_grams = train.astype(np.uint64), text.astype(np.uint64)
    for k in range(longest_context + 1):
        if k > 0:
            train_grams = (train_grams[:-1] << BITS_PER_BYTE) | train[k:]
            text_grams = (text_grams[:-1] << BITS_PER_BYTE) | text[k:]
        count_hc, count_h, distinct_h = _counts(np.sort(train_grams), text_grams)
        shorter = probability[k:]  # P_{k-1}, updated in place where the context is known
        np.divide(count_hc + distinct_h * shorter, count_h + distinct_h, out=shorter, where=count_h > 0)
    return -np.log2(probability[1:])


def _counts(ordered: np.ndarray, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each gram hc: count(hc), count(h), distinct(h), int64, among the sorted grams `ordered` of the same length."""
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    kinds_before = np.concatenate([[0], np.cumsum(is_first)])

    wanted, inverse = np.unique(grams, return_inverse=True)  # sorted queries stay in the processor's cache
    context = wanted >> BITS_PER_BYTE
    low = np.searchsorted(ordered, context << BITS_PER_BYTE)
    high = np.searchsorted(ordered, (context + np.uint64(1)) << BITS_PER_BYTE)
    count_hc = np.searchsorted(ordered, wanted, "right") - np.searchsorted(ordered, wanted)
    return count_hc[inverse], (high - low)[inverse], (kinds_before[high] - kinds_before[low])[inverse]
