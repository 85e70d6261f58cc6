"""The classical lines of a track, recomputed from its data.

A target is only as good as the figure behind it, so what the track states about xz, PPMd and n-grams is computed again from the
text at hand, once per data hash, and a difference beyond `TOLERANCE` stops everything.

Conditioned on train means 8 x (|c(train + text)| - |c(train)|) / |text|: the bits that the text adds to a compressor which
has already read train. It reads train once, and each ending is written by a copy of the process.
"""

import lzma
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from harness.data import ngram
from harness.data.artifact import Progress, derived
from harness.data.corpora.bytes import Corpus
from harness.errors import UserError, nearest
from harness.plan.schema import Track

if TYPE_CHECKING:
    from harness.data.corpora.documents import Corpus as Documents  # its tokenizer takes a while to import

TOLERANCE = 0.001  # bits per byte; the tracks state four decimals
PPMD_ORDER = 6
PPMD_MEMORY_BYTES = 256 << 20  # enough that the model of 12 MB of text is never restarted
AT_ONCE = 1 << 14  # bytes: of many more xz keeps most until it is flushed, so that each copy would do all of the work
METHOD = 1  # part of the cache key: raise it when a figure is computed in another way

Pair = tuple[float, float]  # bits per byte of the slice, the first slice_bytes (or slice_tokens) of val, and of all of val


def recompute(track: Track, corpus: "Corpus | Documents", progress: Progress | None = None) -> dict[str, Pair]:
    """Line id -> bits per byte (slice, val) of every line the track states, from the cache where it is there.

    The first time takes about 25 s of one core for 12 MB, 14 of them xz; for 82 M tokens as long, and 3 GiB. A line
    whose package is not installed (PPMd needs pyppmd) is left out: it stays as stated. Raises: UserError for a line id that has
    no method here.
    """
    recomputed = {}
    for line_id in track.lines:
        try:
            recomputed[line_id] = _line(line_id, track, corpus, progress)
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL_PACKAGES:
                raise
            if progress:
                progress(f"the line {track.lines[line_id].label!r} is not recomputed: pip install {error.name}")
    return recomputed


def _line(line_id: str, track: Track, corpus: "Corpus | Documents", progress: Progress | None) -> Pair:
    of_tokens = bool(track.tokens.tokenizer)
    methods = OF_TOKENS if of_tokens else METHODS
    if line_id not in methods:
        raise UserError(f"track {track.name} states a line {line_id!r} of no known method", nearest(line_id, methods))

    def build() -> Pair:
        if progress:
            progress(f"computing the line {track.lines[line_id].label!r} of {track.name}")
        if of_tokens:
            return methods[line_id](corpus, track.tokens.slice_tokens)
        return methods[line_id](corpus.train, corpus.val, track.slice_bytes)

    length = {"slice_tokens": track.tokens.slice_tokens} if of_tokens else {"slice_bytes": track.slice_bytes}
    return tuple(derived(f"line-{line_id}", {"method": METHOD, **length, **corpus.hashes}, build))


def check(track: Track, recomputed: dict[str, Pair]) -> None:
    """Raises: UserError when a recomputed line is further than TOLERANCE from what the track states."""
    for line_id, pair in recomputed.items():
        line = track.lines[line_id]
        for where, stated, found in (("slice", line.slice, pair[0]), ("val", line.val, pair[1])):
            if not abs(stated - found) <= TOLERANCE:
                raise UserError(
                    f"line {line_id} of track {track.name}, {where}: stated {stated:.4f} bits per byte, found {found:.4f}",
                    f"the two may differ by {TOLERANCE}; a track never changes, so state other figures in a new track",
                )


def xz_alone(train: np.ndarray, val: np.ndarray, slice_bytes: int) -> Pair:
    """`xz -9e`, header and checksum of the .xz container included."""
    return tuple(8 * _bytes(Xz(), text) / len(text) for text in (val[:slice_bytes], val))


def xz_given_train(train: np.ndarray, val: np.ndarray, slice_bytes: int) -> Pair:
    """The 64 MiB dictionary of preset 9 holds all of train, so xz copies phrases from anywhere in it."""
    return _given_train(Xz(), train, val, slice_bytes)


def ppmd_given_train(train: np.ndarray, val: np.ndarray, slice_bytes: int) -> Pair:
    """PPMd variant H (PPMd7, as in 7-Zip). Raises: ModuleNotFoundError where the optional package pyppmd is missing."""
    return _given_train(Ppmd(), train, val, slice_bytes)


def ngram7(train: np.ndarray, val: np.ndarray, slice_bytes: int) -> Pair:
    """Mean over the scored bytes: all of the text but its first."""
    bits = ngram.bits(train, val)
    return float(bits[: slice_bytes - 1].mean()), float(bits.mean())


def ngram3_tokens(corpus: "Documents", slice_tokens: int) -> Pair:
    """Counted on the stream that training reads documents from, end-of-text before each. As models are, it is scored on the
    tokens of val that have bytes, the first of all excepted."""
    end = corpus.tokenizer.end_of_text
    bits_N = ngram.bits(corpus.train_documents.stream(end), corpus.val, of=ngram.TOKENS)
    bytes_N = corpus.token_bytes[corpus.val[1:]]
    bits_N[bytes_N == 0] = 0.0
    return tuple(float(bits_N[:n].sum() / bytes_N[:n].sum()) for n in (slice_tokens - 1, len(bits_N)))


class Xz:
    def __init__(self):
        compressor = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME)
        self.write, self.flush = compressor.compress, compressor.flush


class Ppmd:
    def __init__(self):
        import pyppmd

        encoder = pyppmd.Ppmd7Encoder(PPMD_ORDER, PPMD_MEMORY_BYTES)
        self.write, self.flush = encoder.encode, encoder.flush


def _bytes(compressor: Xz | Ppmd, text: np.ndarray) -> int:
    """How many bytes a compressor adds to what it has written: those of the text, and of its end."""
    return len(compressor.write(text)) + len(compressor.flush())


def _given_train(compressor: Xz | Ppmd, train: np.ndarray, val: np.ndarray, slice_bytes: int) -> Pair:
    for start in range(0, len(train), AT_ONCE):
        compressor.write(train[start : start + AT_ONCE])
    nothing, *texts = (_forked(lambda text=text: _bytes(compressor, text)) for text in (val[:0], val[:slice_bytes], val))
    return tuple(8 * (found - nothing) / len(text) for found, text in zip(texts, (val[:slice_bytes], val)))


def _forked(work: Callable[[], int]) -> int:
    """What `work` gives in a copy of this process, which leaves everything here as it is. Raises: UserError where it ends."""
    reads, writes = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writes, work().to_bytes(8, "big"))
        finally:
            os._exit(0)  # nothing of the copy's is cleaned up: files and threads are the original's
    os.close(writes)
    with open(reads, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    if len(found) < 8:
        raise UserError("a compressor that a line of the track is computed with ended early", "free memory: it takes 1 GB")
    return int.from_bytes(found, "big")


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int], Pair]] = {
    "xz_alone": xz_alone,
    "xz_given_train": xz_given_train,
    "ppmd_given_train": ppmd_given_train,
    "ngram7": ngram7,
}
OF_TOKENS: dict[str, Callable[["Documents", int], Pair]] = {"ngram3_tokens": ngram3_tokens}
OPTIONAL_PACKAGES = {"pyppmd"}
