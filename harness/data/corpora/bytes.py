"""A corpus of bytes: the documents of a text, or of several, joined, each held against what the track states."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from harness.data import overlap
from harness.data.artifact import Progress
from harness.data.corpora import Val, Wanted
from harness.data.noise import noisy
from harness.data.texts import READERS
from harness.data.texts.document import SEPARATOR, Document, joined, passages
from harness.data.turned import Sources, Turned, turned, turns, ungraded, with_weights
from harness.errors import UserError, nearest
from harness.plan.schema import Data, Track
from harness.plan.steps import Steps
from harness.plan.track import Source

NOISE_SEED = 0  # of the noise that is scored, which is the same for every run
NOISE_BYTES = 1 << 16  # of it, for each kind


@dataclass(frozen=True)
class Corpus:
    """The two splits, uint8, 1-D, read-only; `hashes` maps "train" and "val" to the sha256 of their bytes (hex).

    `sources`: of a track of several texts, what the record says of each. `parts`: where in val each source stands. `beside`:
    texts that are scored once, at the end, beside val. `turned`: what training reads instead of train, None where it reads all
    of it."""

    train: np.ndarray
    val: np.ndarray
    hashes: dict[str, str]
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: dict[str, slice] = field(default_factory=dict)
    beside: dict[str, np.ndarray] = field(default_factory=dict)
    turned: Turned | None = None
    token_bytes = None
    answer_N = None

    @classmethod
    def load(cls, wanted: Wanted, progress: Progress | None) -> Self:
        track = wanted.track
        data = with_weights(wanted.data, track.texts)
        documents = documents_of(track, progress)
        splits, hashes = {}, {}
        for split in ("train", "val"):
            splits[split] = SEPARATOR.join(joined(documents[name][split]) for name in track.texts)
            hashes[split] = getattr(track, f"{split}_sha256")
            if track.sources:  # a text alone is the track, and was checked as it was read
                _checked(
                    f"{split} of track {track.name}", splits[split], getattr(track, f"{split}_bytes"), hashes[split],
                    _remedies(track),
                )  # fmt: skip
        read = None
        if turns(data):
            texts = {name: documents[name]["train"] for name in track.texts}
            read = turned(data, texts, wanted.seed, wanted.budget_tokens, wanted.sequence_length)
        train, val = (np.frombuffer(splits[split], np.uint8) for split in ("train", "val"))
        sources = {name: dict(vars(source)) for name, source in track.sources.items()}
        return cls(train, val, hashes, sources, _parts(track), _noise(data, documents), read)

    @classmethod
    def load_val(cls, wanted: Wanted, progress: Progress | None) -> Val:
        found = cls.load(Wanted(wanted.track), progress)
        return Val(found.val, None, found.hashes["val"])

    def batches(self, seed: int, steps: Steps, sequence_length: int) -> Any:
        from harness.data.batches import Batches
        from harness.data.mixed import batches_of

        if self.turned is None:
            return Batches(self.train, seed, steps, sequence_length)
        return batches_of(self.turned, seed, steps, sequence_length)

    def facts(self) -> dict[str, Any]:
        return {
            "train_sha256": self.hashes["train"], "val_sha256": self.hashes["val"],
            "train_bytes": len(self.train), "val_bytes": len(self.val),
            **({"sources": self.sources} if self.sources else {}), **({"turned": self.turned.facts} if self.turned else {}),
        }  # fmt: skip

    @property
    def train_length(self) -> int:
        return sum(len(strand.text) for strand in self.turned.strands) if self.turned else len(self.train)

    def examine(self, progress: Progress | None = None) -> tuple[np.ndarray, dict[str, str]]:
        return overlap.clean(self), {}


def documents_of(track: Track, progress: Progress | None = None) -> dict[str, dict[str, Sequence[Document]]]:
    """The documents of each source of a track of bytes, by split. Raises: UserError as `corpora.load` does."""
    return {name: _read(track, name, source, progress) for name, source in track.texts.items()}


def to_grade(wanted: Wanted, progress: Progress | None) -> Sources:
    """The documents of train that grades are asked of, by source. Raises: UserError."""
    texts = {name: splits["train"] for name, splits in documents_of(wanted.track, progress).items()}
    return ungraded(with_weights(wanted.data, wanted.track.texts), texts, wanted.seed)[0]


def _read(track: Track, name: str, source: Source, progress: Progress | None) -> dict[str, Sequence[Document]]:
    """The documents of a source by split, once they are what the track states of it."""
    if source.corpus not in READERS:
        raise UserError(f"track {track.name} names an unknown corpus {source.corpus!r}", nearest(source.corpus, READERS))
    reader = READERS[source.corpus]
    text = reader.read(source)
    whose = f"source {name} of track {track.name}" if track.sources else f"track {track.name}"
    for split in ("train", "val"):
        _checked(
            f"{split} of {whose}", joined(text.split(split)), getattr(source, f"{split}_bytes"),
            getattr(source, f"{split}_sha256"), reader.remedy(source),
        )  # fmt: skip
    return {split: text.split(split) for split in ("train", "val")}


def _checked(what: str, content: bytes, expected_bytes: int, expected_sha256: str, remedy: str) -> None:
    """Raises: UserError for a split of another length or sha256 than the track states."""
    if len(content) != expected_bytes:
        raise UserError(f"{what} has the wrong length: expected {expected_bytes:,} bytes, found {len(content):,}", remedy)
    found = hashlib.sha256(content).hexdigest()
    if found != expected_sha256:
        raise UserError(f"{what} has the wrong sha256: expected {expected_sha256}, found {found}", remedy)


def _remedies(track: Track) -> str:
    return "; ".join(dict.fromkeys(READERS[source.corpus].remedy(source) for source in track.texts.values()))


def _parts(track: Track) -> dict[str, slice]:
    """Where val of each source stands in val of a track of several."""
    found, start = {}, 0
    for name, source in track.sources.items():
        found[name] = slice(start, start + source.val_bytes)
        start += source.val_bytes + len(SEPARATOR)
    return found


def _noise(data: Data, documents: Mapping[str, Mapping[str, Sequence[Document]]]) -> dict[str, np.ndarray]:
    """By `noise-KIND`: the beginning of val, each of its passages replaced by that noise; whatever the plan trains on. What is
    made of other passages is made of those of train, as it is in training."""
    others = (
        {name: [p for d in splits["train"] for p in passages(d)] for name, splits in documents.items()} if data.noise else {}
    )
    val = list(_beginning((name, p) for name in others for d in documents[name]["val"] for p in passages(d)))
    return {
        f"noise-{kind}": np.frombuffer(joined(noisy(kind, p, others[name], NOISE_SEED) for name, p in val), np.uint8)
        for kind in data.noise
    }


def _beginning(passages: Iterator[tuple[str, Document]]) -> Iterator[tuple[str, Document]]:
    left = NOISE_BYTES
    for name, passage in passages:
        if left <= 0:
            return
        yield name, passage
        left -= len(passage.text) + len(SEPARATOR)
