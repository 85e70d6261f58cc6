"""Lines of models that only count: the 7-gram of bytes, and the 3-gram of tokens.

Witten-Bell interpolation (Witten and Bell 1991, "The zero-frequency problem", method C, in the recursive form of Chen and
Goodman 1998, section 2.5): for contexts h of 0 symbols and more, h' = h without its first one, P_{-1} = 1/V of V symbols,

    P_k(c|h) = (count(hc) + distinct(h) P_{k-1}(c|h')) / (count(h) + distinct(h))

count(h) counts h where a symbol follows it, distinct(h) the different ones that follow it, so P_k sums to one. A context that
train never shows is skipped: P_k = P_{k-1}.
"""

from typing import NamedTuple

import numpy as np


class Symbols(NamedTuple):
    """What is counted: `number` of different ones (V), each of `width` bits, in contexts of at most `longest`."""

    number: int
    width: int
    longest: int


BYTES = Symbols(256, 8, 6)  # as long as a uint64 holds
TOKENS = Symbols(50257, 16, 2)  # of GPT-2; counted on wiki, contexts of 1, 2 and 3 gave 1.7759, 1.6556 and 1.6797 on its slice


def bits(train: np.ndarray, text: np.ndarray, longest: int | None = None, of: Symbols = BYTES) -> np.ndarray:
    """-log2 P of every symbol of `text` but the first, float64, in a model counted on `train` (both uint8, of tokens uint16;
    1-D). `longest`: of the contexts, in symbols.

    The first symbol of `text` is not scored but serves as context; those after it have contexts no longer than the text before
    them. Counts come from one sort per order: the grams that begin with h are a range of the sorted grams of train.
    """
    longest, width = of.longest if longest is None else longest, np.uint64(of.width)
    assert (longest + 1) * of.width <= 64, "a context and its next symbol must fit in a uint64"
    probability = np.full(len(text), 1 / of.number)
    train_grams, text_grams = train.astype(np.uint64), text.astype(np.uint64)
    for k in range(longest + 1):
        if k > 0:
            train_grams = (train_grams[:-1] << width) | train[k:]
            text_grams = (text_grams[:-1] << width) | text[k:]
        count_hc, count_h, distinct_h = _counts(np.sort(train_grams), text_grams, width)
        shorter = probability[k:]  # P_{k-1}, updated in place where the context is known
        np.divide(count_hc + distinct_h * shorter, count_h + distinct_h, out=shorter, where=count_h > 0)
    return -np.log2(probability[1:])


def _counts(ordered: np.ndarray, grams: np.ndarray, width: np.uint64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each gram hc: count(hc), count(h), distinct(h), int64, among the sorted grams `ordered` of the same length."""
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    kinds_before = np.concatenate([[0], np.cumsum(is_first)])

    wanted, inverse = np.unique(grams, return_inverse=True)  # sorted queries stay in the processor's cache
    context = wanted >> width
    low = np.searchsorted(ordered, context << width)
    high = np.searchsorted(ordered, (context + np.uint64(1)) << width)
    count_hc = np.searchsorted(ordered, wanted, "right") - np.searchsorted(ordered, wanted)
    return count_hc[inverse], (high - low)[inverse], (kinds_before[high] - kinds_before[low])[inverse]
