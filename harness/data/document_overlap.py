"""Which 13-word sequences of held-out documents occur in others: the check of `overlap.py` where train is too large to sort.

Words and windows are those of `overlap.py` (split at ASCII white space, ASCII letters lowercased); no window straddles two
documents. The windows of the held-out texts are kept by a 64-bit hash, the others stream past them, and every hit is compared
word by word, so the answer is exact: equal windows have equal hashes, and others are told apart. 23 s for 379 MB.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from harness.data.artifact import Progress, derived
from harness.data.overlap import WINDOW_WORDS, outside

METHOD = 1  # part of the cache key: raise it when a mask is computed in another way
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no position is lost in the sum
FILTER_BITS = 24
REPORT_DOCUMENTS = 5000


class HeldOut:
    """Texts whose windows are looked for. `shared`: bool, one per window, whether another text has it too."""

    def __init__(self, documents: Iterable[bytes], window_words: int = WINDOW_WORDS):
        self.documents, self.window_words = list(documents), window_words
        self.words = [document.lower().split() for document in self.documents]
        hashes = [window_hashes(words, window_words) for words in self.words]
        counts = [len(some) for some in hashes]
        self.first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)  # window number of each document's first
        self.shared = np.zeros(int(self.first[-1]), bool)
        joined = np.concatenate([np.zeros(0, np.uint64), *hashes])
        self.known = np.unique(joined)
        self.filter = np.zeros(1 << FILTER_BITS, bool)
        self.filter[joined >> np.uint64(64 - FILTER_BITS)] = True
        self.by_hash: dict[int, list[int]] = defaultdict(list)
        for number, value in enumerate(joined.tolist()):
            self.by_hash[value].append(number)

    def look_at(self, words: list[bytes], hashes: np.ndarray) -> None:
        """Marks the windows that a document of these words, whose windows have these hashes, has too."""
        likely = np.flatnonzero(self.filter[hashes >> np.uint64(64 - FILTER_BITS)])
        wanted = hashes[likely]
        place = np.minimum(np.searchsorted(self.known, wanted), len(self.known) - 1)
        for at in likely[self.known[place] == wanted].tolist() if len(self.known) else []:
            window = words[at : at + self.window_words]
            for number in self.by_hash[int(hashes[at])]:
                if not self.shared[number] and self._window(number) == window:
                    self.shared[number] = True

    def clean_bytes(self) -> np.ndarray:
        """Bool per byte of all documents, one after the other: in no shared window, from its first to its last byte."""
        masks = (
            outside(np.frombuffer(document, np.uint8), np.flatnonzero(self.shared[first:last]), self.window_words)
            for document, first, last in zip(self.documents, self.first, self.first[1:])
        )
        return np.concatenate([np.zeros(0, bool), *masks])

    def _window(self, number: int) -> list[bytes]:
        document = int(np.searchsorted(self.first, number, "right")) - 1
        start = number - int(self.first[document])
        return self.words[document][start : start + self.window_words]


def window_hashes(words: list[bytes], window_words: int = WINDOW_WORDS) -> np.ndarray:
    """uint64, one per window of consecutive words; equal windows have equal hashes within one process."""
    count = max(len(words) - window_words + 1, 0)
    word_N = np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
    out = np.zeros(count, np.uint64)
    for k in range(window_words):
        out = out * MULTIPLIER + word_N[k : k + count]
    return out


def search(held_out: list[HeldOut], documents: Iterable[str], progress: Progress | None = None) -> None:
    """Marks what `documents` share with each of `held_out`, which have one window length; reads them once."""
    for number, document in enumerate(documents, 1):
        words = document.encode().lower().split()
        hashes = window_hashes(words, held_out[0].window_words)
        for held in held_out:
            held.look_at(words, hashes)
        if progress and number % REPORT_DOCUMENTS == 0:
            progress(f"looking for {held_out[0].window_words}-word sequences of val and test: {number:,} documents of train")


def clean_bytes(
    hashes: dict[str, str], texts: Callable[[str], Iterable[str]], test: bytes | None, progress: Progress | None = None
) -> tuple[np.ndarray, dict[str, int]]:
    """(mask, counts), cached by `hashes` (of train, val and, where there is one, test).

    mask: bool per byte of the documents of val, one after the other: in no 13-word sequence of train. counts: windows of
    `val` and `test`, those shared with train (`val_in_train`, `test_in_train`), and those of test in val (`test_in_val`).
    `texts(split)` gives the documents of train and val.
    """
    key = {"method": METHOD, "window_words": WINDOW_WORDS, **hashes}

    def build() -> np.ndarray:
        val = HeldOut(text.encode() for text in texts("val"))
        held = [val] if test is None else [val, HeldOut([test])]
        search(held, texts("train"), progress)
        counts = [len(val.shared), int(val.shared.sum()), 0, 0, 0]
        if test is not None:
            in_train = held[1].shared
            held[1].shared = np.zeros_like(in_train)
            search(held[1:], texts("val"))
            counts[2:] = [len(in_train), int(in_train.sum()), int(held[1].shared.sum())]
        mask = val.clean_bytes()
        return np.concatenate([np.array([*counts, len(mask)], "<i8").view(np.uint8), np.packbits(mask)])

    packed = derived("clean-documents", key, build)
    *counts, length = packed[:48].view("<i8").tolist()
    names = ("val", "val_in_train", "test", "test_in_train", "test_in_val")
    return np.unpackbits(packed[48:], count=length).astype(bool), dict(zip(names, counts))
