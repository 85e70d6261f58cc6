"""A corpus of documents, tokenized here.

`val` is the stream that is scored: end-of-text before each document. `token_bytes` tells the bytes of each token, 0 for
end-of-text, which is never scored in bits per byte.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from harness.data import document_overlap, enwiki, hub, text_files, token_files
from harness.data.artifact import Progress, fetch
from harness.data.corpora import NOTHING, Val, Wanted
from harness.data.joined import Joined
from harness.data.token_files import TokenFile
from harness.data.tokenizer import TOKENIZERS, Tokenizer
from harness.errors import UserError
from harness.plan.schema import File, Track
from harness.plan.steps import Steps

TEST = File("test", "text/wiki.test.raw", "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08")
REBUILDERS = {"enwiki2015": (enwiki.rebuilt, enwiki.rebuild)}  # corpora that can be made from a public source


@dataclass(frozen=True)
class Documents:
    """A split: its documents' tokens without end-of-text, and where each begins (one more than there are documents)."""

    tokens: Joined
    offsets: np.ndarray
    text_bytes: int
    sha256: str  # over those of its token files

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def pieces(self, end_of_text: int) -> Iterator[np.ndarray]:
        """The stream of all documents in order, end-of-text before each, a document at a time; uint16."""
        for start, end in zip(self.offsets, self.offsets[1:]):
            yield np.concatenate([np.array([end_of_text], np.uint16), self.tokens.read(int(start), int(end))])

    def stream(self, end_of_text: int) -> np.ndarray:
        """`pieces` as one array: for val, which is small."""
        return np.concatenate([np.zeros(0, np.uint16), *self.pieces(end_of_text)])


@dataclass(frozen=True)
class Corpus:
    track: Track
    tokenizer: Tokenizer
    train_documents: Documents
    val_documents: Documents
    val: np.ndarray
    hashes: dict[str, str]  # of the text of each split as the track states it, else of its tokens
    answer_N = None
    parts = beside = NOTHING

    @classmethod
    def load(cls, wanted: Wanted, progress: Progress | None) -> Self:
        """Tokenizes what has not been tokenized."""
        track = wanted.track
        tokenizer = TOKENIZERS[track.tokens.tokenizer]()
        train, val = (_documents(track, split, tokenizer, progress) for split in ("train", "val"))
        hashes = {"train": track.train_sha256 or train.sha256, "val": track.val_sha256 or val.sha256}
        return cls(track, tokenizer, train, val, val.stream(tokenizer.end_of_text), hashes)

    @classmethod
    def load_val(cls, wanted: Wanted, progress: Progress | None) -> Val:
        track = wanted.track
        tokenizer = TOKENIZERS[track.tokens.tokenizer]()
        found = _documents(track, "val", tokenizer, progress)
        return Val(found.stream(tokenizer.end_of_text), tokenizer.token_bytes, track.val_sha256 or found.sha256)

    @property
    def train(self) -> Joined:
        return self.train_documents.tokens

    @property
    def token_bytes(self) -> np.ndarray:
        return self.tokenizer.token_bytes

    def batches(self, seed: int, steps: Steps, sequence_length: int) -> Any:
        from harness.data.packing import DocumentBatches

        train = self.train_documents
        return DocumentBatches(train.tokens, train.offsets, self.tokenizer.end_of_text, seed, steps, sequence_length)

    def facts(self) -> dict[str, Any]:
        """The record's `data`."""
        return {
            "train_sha256": self.hashes["train"], "val_sha256": self.hashes["val"],
            "train_bytes": self.train_documents.text_bytes, "val_bytes": self.val_documents.text_bytes,
            "tokenizer": self.tokenizer.hash,
            "train_tokens": self.train_length, "val_tokens": len(self.val),
            "train_documents": len(self.train_documents), "val_documents": len(self.val_documents),
        }  # fmt: skip

    @property
    def train_length(self) -> int:
        return len(self.train) + len(self.train_documents)

    def examine(self, progress: Progress | None = None) -> tuple[np.ndarray, dict[str, str]]:
        """Bool per token of `val`, whether none of its bytes is in a 13-word sequence of a document of train; and in words
        what train, val and WikiText's test part (where it can be had) share."""
        test = test_text(progress)
        hashes = self.hashes | ({"test": TEST.sha256} if test is not None else {})
        clean_N, counts = document_overlap.clean_bytes(hashes, lambda split: texts(self.track, split), test, progress)
        dirty_before = np.concatenate([[0], np.cumsum(~clean_N)])
        ends = np.cumsum(self.token_bytes[self.val])
        clean_N = dirty_before[ends] == dirty_before[ends - self.token_bytes[self.val]]
        return clean_N, {
            "documents": f"{len(self.train_documents):,} of train, {len(self.val_documents):,} of val",
            "text": f"{self.train_documents.text_bytes:,} bytes of train, {self.val_documents.text_bytes:,} of val",
            "overlap": f"{counts['val_in_train']:,} of the {counts['val']:,} 13-word sequences of val are in train"
            + (
                f"; of the {counts['test']:,} of WikiText's test part {counts['test_in_train']:,} are in train and "
                f"{counts['test_in_val']:,} in val"
                if test is not None
                else ""
            ),
        }


def _as_stated(track: Track, split: str, what: str, stated: int, found: int) -> None:
    if stated and stated != found:
        raise UserError(
            f"{split} of track {track.name} has {found:,} {what}, the track states {stated:,}", "restore the track's file"
        )


def _documents(track: Track, split: str, tokenizer: Tokenizer, progress: Progress | None) -> Documents:
    """A split, tokenized and as long as the track states."""
    files = [_token_file(track, file, tokenizer, progress) for file in track.tokens.files if file.split == split]
    ends = np.cumsum([0, *(len(file.tokens) for file in files)])
    offsets = np.concatenate([[0], *(file.offsets[1:] + end for file, end in zip(files, ends))])
    sha256 = hashlib.sha256("".join(f"{file.sha256}\n" for file in files).encode()).hexdigest()
    found = Documents(Joined([file.tokens for file in files]), offsets, sum(file.text_bytes for file in files), sha256)
    stated = {
        "train": (track.train_bytes, track.tokens.train_tokens), "val": (track.val_bytes, track.tokens.val_tokens),
    }  # fmt: skip
    _as_stated(track, split, "bytes of text", stated[split][0], found.text_bytes)
    _as_stated(track, split, "tokens", stated[split][1], len(found.tokens) + len(found))
    return found


def _token_file(track: Track, file: File, tokenizer: Tokenizer, progress: Progress | None) -> TokenFile:
    known = file.text_sha256 or file.sha256 or hub.fetch(track.tokens.hub, file.name, progress=progress).sha256
    return token_files.tokenize(
        file.name, known, track.tokens.format,
        lambda: _read(track, file, progress), tokenizer, progress,
    )  # fmt: skip


def texts(track: Track, split: str, progress: Progress | None = None) -> Iterator[str]:
    """The documents of a split, one after the other, as `str`."""
    for file in track.tokens.files:
        if file.split == split:
            yield from _read(track, file, progress)


def _read(track: Track, file: File, progress: Progress | None) -> Iterator[str]:
    return text_files.READERS[track.tokens.format](locate(track, file, progress), file.text_sha256)


def test_text(progress: Progress | None = None) -> bytes | None:
    """WikiText's raw test part, which a run of a token track is scored on once; None where no mirror has it."""
    try:
        return fetch(TEST.name, TEST.sha256).read_bytes()
    except UserError as missing:
        if progress:
            progress(f"{missing.problem.splitlines()[0].rstrip(':')}, so that it is not compared with train")
        return None


def locate(track: Track, file: File, progress: Progress | None = None) -> Path:
    """Where the file is now: rebuilt before, in the cache, or fetched; as a last resort the corpus is rebuilt."""
    if track.tokens.hub:
        return hub.fetch(track.tokens.hub, file.name, file.sha256, progress).path
    if track.corpus not in REBUILDERS:
        return fetch(file.name, file.sha256)
    rebuilt, rebuild = REBUILDERS[track.corpus]
    if rebuilt(file).exists():
        return rebuilt(file)
    try:
        return fetch(file.name, file.sha256)
    except UserError as missing:
        if progress:
            progress(f"{missing.problem.splitlines()[0]}; rebuilding {track.corpus} from its public source")
        try:
            rebuild(track.tokens.files, progress=progress)
        except UserError as error:
            raise UserError(f"{missing.problem}\n  {error.problem}", error.remedy) from error
        return rebuilt(file)
