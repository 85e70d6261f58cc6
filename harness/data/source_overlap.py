"""What one source of a track gives away of another one's val.

Word for word: the share of val that stands in sequences of 13 words which train of a source has (`overlap.py`). Such sequences
rarely survive a rephrasing, so the sources' val parts are also compressed: PPMd that has read val of X, which is the same
documents in other words, needs fewer bits for val of Y than PPMd that has read as much of other documents of X.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from harness.data import overlap
from harness.data.artifact import Progress, derived
from harness.data.lines import OPTIONAL_PACKAGES, Ppmd
from harness.data.texts.document import SEPARATOR, Document, joined

METHOD = 1  # part of the cache key: raise it when a figure is computed in another way
ASUNDER = b" \x00 "  # a word that no text has

Splits = Mapping[str, Sequence[Document]]  # by "train" and "val"


@dataclass(frozen=True)
class SourceOverlap:
    """`documents`: of both splits, by source. `alike`: whether all sources have documents of the same keys in both.

    Rows are val of Y, columns are X, in the order of `sources`. `shared_YX`: share of the bytes in 13-word sequences that train
    of X has. Bits per byte by PPMd, None where its package is not installed: `alone_Y`; `given_val_YX`, after val of X, with 0
    on the diagonal, where it is the same text; `given_train_YX`, after as many bytes of documents of X's train."""

    sources: list[str]
    documents: dict[str, list[int]]
    alike: bool
    shared_YX: list[list[float]]
    alone_Y: list[float] | None
    given_val_YX: list[list[float]] | None
    given_train_YX: list[list[float]] | None


def source_overlap(documents: Mapping[str, Splits], progress: Progress | None = None) -> SourceOverlap:
    """By source its documents. The first time takes some 6 s for five sources of 4 MB, then it is cached by their hashes."""
    sources = list(documents)
    train = {name: joined(splits["train"]) for name, splits in documents.items()}
    val = {name: joined(splits["val"]) for name, splits in documents.items()}
    others = {name: _sampled(documents[name]["train"], len(val[name])) for name in sources}

    def key(*texts: Mapping[str, bytes], **more: int) -> dict[str, Any]:
        return {"method": METHOD, "sources": [sha256(text[name]).hexdigest() for name in sources for text in texts], **more}

    def shared() -> list[list[float]]:
        if progress:
            progress(f"looking for val of {', '.join(sources)} in train of each")
        return np.transpose([_shared(train[name], [val[other] for other in sources]) for name in sources]).tolist()

    def compressed() -> dict[str, Any]:
        if progress:
            progress(f"compressing val of {', '.join(sources)} given that of each other")
        return {
            "alone_Y": [_bits(b"", val[name]) for name in sources],
            "given_val_YX": [[_bits(val[x], val[y]) if x != y else 0.0 for x in sources] for y in sources],
            "given_train_YX": [[_bits(others[x], val[y]) for x in sources] for y in sources],
        }

    try:
        bits = derived("sources-compressed", key(others, val), compressed)
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL_PACKAGES:
            raise
        bits = {"alone_Y": None, "given_val_YX": None, "given_train_YX": None}
    keys = {name: [[d.key for d in splits[split]] for split in ("train", "val")] for name, splits in documents.items()}
    return SourceOverlap(
        sources=sources,
        documents={name: [len(some) for some in found] for name, found in keys.items()},
        alike=all(found == keys[sources[0]] for found in keys.values()),
        shared_YX=derived("sources-shared", key(train, val, overlap=overlap.METHOD, window_words=overlap.WINDOW_WORDS), shared),
        **bits,
    )


def _shared(train: bytes, vals: Sequence[bytes]) -> list[float]:
    """The share of the bytes of each val that `train` has too, in sequences of 13 words."""
    clean = overlap.clean_mask(np.frombuffer(train, np.uint8), np.frombuffer(ASUNDER.join(vals), np.uint8))
    found, start = [], 0
    for val in vals:
        found.append(1 - float(clean[start : start + len(val)].mean()))
        start += len(val) + len(ASUNDER)
    return found


def _sampled(documents: Sequence[Document], size: int) -> bytes:
    """`size` bytes of evenly spaced documents, and of others after them where they have fewer."""
    total = sum(len(document.text) + len(SEPARATOR) for document in documents)
    wanted = min(len(documents), max(1, round(len(documents) * size / max(total, 1))))
    places = [place * len(documents) // wanted for place in range(wanted)]
    others = sorted(set(range(len(documents))) - set(places))
    return joined(documents[place] for place in [*places, *others])[:size]


def _bits(before: bytes, text: bytes) -> float:
    """Bits per byte that `text` adds for PPMd which has read `before`."""
    return 8 * (_size(before + text) - _size(before)) / len(text)


def _size(text: bytes) -> int:
    encoder = Ppmd()
    return len(encoder.write(text)) + len(encoder.flush())
