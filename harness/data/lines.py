"""The classical lines of a track, recomputed from its data.

A target is only as good as the figure behind it, so what the track states about xz, PPMd and the 7-gram is computed again
from the bytes at hand, once per data hash, and a difference beyond `TOLERANCE` stops everything.

Conditioned on train means 8 x (|c(train + text)| - |c(train)|) / |text|: the bits that the text adds to a compressor which
has already read train.
"""

import lzma
from collections.abc import Callable

import numpy as np

from harness.data import ngram
from harness.data.artifact import Progress, derived
from harness.data.corpora.bytes import Corpus
from harness.errors import UserError, nearest
from harness.plan.schema import Track

TOLERANCE = 0.001  # bits per byte; the tracks state four decimals
PPMD_ORDER = 6
PPMD_MEMORY_BYTES = 256 << 20  # enough that the model of 12 MB of text is never restarted
METHOD = 1  # part of the cache key: raise it when a figure is computed in another way

Pair = tuple[float, float]  # bits per byte of the first slice_bytes of val, and of all of val


def recompute(track: Track, corpus: Corpus, progress: Progress | None = None) -> dict[str, Pair]:
    """Line id -> bits per byte (slice, val) of every line the track states, from the cache where it is there.

    The first time takes about 50 s of one core for 12 MB, 30 of them xz. A line whose package is not installed (PPMd needs
    pyppmd) is left out: it stays as stated. Raises: UserError for a line id that has no method here.
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


def _line(line_id: str, track: Track, corpus: Corpus, progress: Progress | None) -> Pair:
    if line_id not in METHODS:
        raise UserError(f"track {track.name} states a line {line_id!r} of no known method", nearest(line_id, METHODS))

    def build() -> Pair:
        if progress:
            progress(f"computing the line {track.lines[line_id].label!r} of {track.name}")
        return METHODS[line_id](corpus.train, corpus.val, track.slice_bytes)

    key = {"method": METHOD, "slice_bytes": track.slice_bytes, **corpus.hashes}
    return tuple(derived(f"line-{line_id}", key, build))


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
    return tuple(8 * xz_bytes(text) / len(text) for text in (val[:slice_bytes], val))


def xz_given_train(train: np.ndarray, val: np.ndarray, slice_bytes: int) -> Pair:
    """The 64 MiB dictionary of preset 9 holds all of train, so xz copies phrases from anywhere in it."""
    return _given_train(xz_bytes, train, val, slice_bytes)


def ppmd_given_train(train: np.ndarray, val: np.ndarray, slice_bytes: int) -> Pair:
    """PPMd variant H (PPMd7, as in 7-Zip). Raises: ModuleNotFoundError where the optional package pyppmd is missing."""
    return _given_train(ppmd_bytes, train, val, slice_bytes)


def ngram7(train: np.ndarray, val: np.ndarray, slice_bytes: int) -> Pair:
    """Mean over the scored bytes: all of the text but its first."""
    bits = ngram.bits(train, val)
    return float(bits[: slice_bytes - 1].mean()), float(bits.mean())


def xz_bytes(*parts: np.ndarray) -> int:
    compressor = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME)
    return sum(len(compressor.compress(part)) for part in parts) + len(compressor.flush())


def ppmd_bytes(*parts: np.ndarray) -> int:
    import pyppmd

    encoder = pyppmd.Ppmd7Encoder(PPMD_ORDER, PPMD_MEMORY_BYTES)
    return sum(len(encoder.encode(part)) for part in parts) + len(encoder.flush())


def _given_train(compressed_bytes: Callable[..., int], train: np.ndarray, val: np.ndarray, slice_bytes: int) -> Pair:
    before = compressed_bytes(train)
    return tuple(8 * (compressed_bytes(train, text) - before) / len(text) for text in (val[:slice_bytes], val))


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int], Pair]] = {
    "xz_alone": xz_alone,
    "xz_given_train": xz_given_train,
    "ppmd_given_train": ppmd_given_train,
    "ngram7": ngram7,
}
OPTIONAL_PACKAGES = {"pyppmd"}
