"""Everything about a track's data that is done before training: load, check, lines, overlap. Done once, then cached."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.data import corpora, lines
from harness.data.artifact import Progress
from harness.data.corpora.bytes import Corpus, documents_of
from harness.data.source_overlap import SourceOverlap, source_overlap
from harness.plan.goal import slice_length
from harness.plan.schema import Line, Track

if TYPE_CHECKING:
    from harness.data.corpora.documents import Corpus as Documents


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
    sizes: dict[str, int | None]  # of train (None: without an end), val and slice, in its unit; end-of-text is among tokens
    hashes: dict[str, str]  # sha256 of train and val
    lines: list[PreparedLine]
    clean_share: dict[str, float]  # share of val and slice, in its unit, in no 13-word sequence of train
    unit: str = "bytes"
    facts: dict[str, str] = field(default_factory=dict)  # what else was found, by name
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage
    sources: SourceOverlap | None = None  # of a track of several


def prepare(wanted: corpora.Wanted, progress: Progress | None = None) -> Report:
    """Loads and verifies the data of a track, recomputes and checks its lines, marks what val shares with train.

    The first time takes half a minute for a track of bytes and a minute for `wiki`, later ones under a second. `progress` is
    called with a sentence before and during each long computation. Raises: UserError as `corpora.load`, `lines.check` and
    `artifact.derived` do.
    """
    track = wanted.track
    seconds: dict[str, float] = {}
    with _timed(seconds, "load"):
        found = corpora.load(wanted, progress)
    with _timed(seconds, "lines"):
        known = prepared_lines(track, found, progress) if track.lines else []
    with _timed(seconds, "overlap"):
        clean, facts = found.examine(progress)
        between = source_overlap(documents_of(track, progress), progress) if track.sources else None
    length = min(slice_length(track), len(found.val))
    return Report(
        track=track.name,
        corpus=track.corpus,
        release=track.release,
        sizes={"train": found.train_length, "val": len(found.val), "slice": length},
        hashes=found.hashes,
        lines=known,
        clean_share={} if clean is None else {"val": float(clean.mean()), "slice": float(clean[:length].mean())},
        unit=track.unit,
        facts=facts,
        seconds=seconds,
        sources=between,
    )


def prepared_lines(track: Track, data: "Corpus | Documents", progress: Progress | None = None) -> list[PreparedLine]:
    """The lines of a track in the order it states them, recomputed and checked."""
    recomputed = lines.recompute(track, data, progress)
    lines.check(track, recomputed)
    return [PreparedLine(line_id, line, recomputed.get(line_id)) for line_id, line in track.lines.items()]


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
