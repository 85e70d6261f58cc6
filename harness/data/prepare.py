"""Everything about a track's data that is done before training: load, check, lines, overlap. Done once, then cached."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.data import corpus, lines, overlap
from harness.data.lines import Progress
from harness.plan.schema import Line, Track


@dataclass(frozen=True)
class PreparedLine:
    """What a track states of a line (bits per byte), and what was found; None where its package is not installed."""

    id: str
    stated: Line
    recomputed: lines.Pair | None


@dataclass(frozen=True)
class Report:
    track: str
    corpus: str
    release: str
    sizes: dict[str, int]  # bytes of train, val and slice
    hashes: dict[str, str]  # sha256 of train and val
    lines: list[PreparedLine]
    clean_share: dict[str, float]  # share of the bytes of val and slice in no 13-word sequence of train
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage


def prepare(track: Track, progress: Progress | None = None) -> Report:
    """Loads and verifies the data of a track, recomputes and checks its lines, marks what val shares with train.

    About a minute the first time, under a second once the cache holds the results. `progress` is called with a sentence
    before each long computation. Raises UserError as `corpus.load`, `lines.check` and `artifact.derived` do.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "load"):
        data = corpus.load(track)
    with _timed(seconds, "lines"):
        found = prepared_lines(track, data, progress)
    with _timed(seconds, "overlap"):
        clean = overlap.clean(data)
    return Report(
        track=track.name,
        corpus=track.corpus,
        release=track.release,
        sizes={"train": len(data.train), "val": len(data.val), "slice": min(track.slice_bytes, len(data.val))},
        hashes=data.hashes,
        lines=found,
        clean_share={"val": float(clean.mean()), "slice": float(clean[: track.slice_bytes].mean())},
        seconds=seconds,
    )


def prepared_lines(track: Track, data: corpus.Corpus, progress: Progress | None = None) -> list[PreparedLine]:
    """The lines of a track in the order it states them, recomputed and checked."""
    recomputed = lines.recompute(track, data, progress)
    lines.check(track, recomputed)
    return [PreparedLine(line_id, line, recomputed.get(line_id)) for line_id, line in track.lines.items()]


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
