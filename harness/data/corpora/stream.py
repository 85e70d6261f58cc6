"""A corpus of published token files: a stream without a table of documents, read in order as published speedruns read it."""

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from harness.data import hub
from harness.data.artifact import Progress
from harness.data.corpora import NOTHING, Val, Wanted
from harness.data.joined import Joined
from harness.data.shards import find_shards, read_shard
from harness.data.tokenizer import TOKENIZERS, Tokenizer
from harness.files import file_sha256
from harness.plan.schema import Data, Track
from harness.plan.steps import Steps


@dataclass(frozen=True)
class Corpus:
    tokenizer: Tokenizer
    train: Joined
    val: np.ndarray  # uint16
    hashes: dict[str, str]  # of the splits: over the sha256 of their files, one a line
    answer_N = None
    parts = beside = NOTHING

    @classmethod
    def load(cls, wanted: Wanted, progress: Progress | None) -> Self:
        """As many files of train are fetched as a budget of so many tokens reads, all of them for 0."""
        track, data, val = wanted.track, wanted.data, cls.load_val(wanted, progress)
        found = _own(data, "train") if data.shards else _fetch(track, "train", wanted.budget_tokens, progress)
        train = Joined([read_shard(file.path) for file in found])
        return cls(TOKENIZERS[track.tokens.tokenizer](), train, val.tokens, {"train": _hash(found), "val": val.sha256})

    @classmethod
    def load_val(cls, wanted: Wanted, progress: Progress | None) -> Val:
        track, data = wanted.track, wanted.data
        found = _own(data, "val") if data.shards else _fetch(track, "val", 1, progress)
        val = Joined([read_shard(file.path) for file in found])
        length = min(len(val), track.tokens.val_tokens or len(val))
        return Val(val.read(0, length), TOKENIZERS[track.tokens.tokenizer]().token_bytes, _hash(found))

    @property
    def token_bytes(self) -> np.ndarray:
        return self.tokenizer.token_bytes

    def batches(self, seed: int, steps: Steps, sequence_length: int) -> Any:
        """`seed` keys nothing here: the order is that of the files."""
        from harness.data.packing import StreamBatches

        tokenizer = self.tokenizer
        return StreamBatches(self.train, tokenizer.vocab_size, tokenizer.end_of_text, steps, sequence_length)

    def facts(self) -> dict[str, Any]:
        """The record's `data`. The bytes of train are not counted: that would read all of it."""
        return {
            "train_sha256": self.hashes["train"], "val_sha256": self.hashes["val"],
            "train_bytes": None, "val_bytes": int(self.token_bytes[self.val[1:]].sum()),
            "tokenizer": self.tokenizer.hash, "train_tokens": len(self.train), "val_tokens": len(self.val),
        }  # fmt: skip

    @property
    def train_length(self) -> int:
        return len(self.train)

    def examine(self, progress: Progress | None = None) -> tuple[None, dict[str, str]]:
        """Without its text, what val shares with train is not known."""
        return None, {"files": f"{len(self.train.parts)} of train", "overlap": "not known: the files hold tokens, not text"}


def _own(data: Data, split: str) -> list[hub.Checked]:
    """The files of `data.shards`."""
    train, val = find_shards(data.shards)
    return [hub.Checked(path, file_sha256(path)) for path in (train if split == "train" else val)]


def _fetch(track: Track, split: str, tokens: int, progress: Progress | None) -> list[hub.Checked]:
    """Files of the track in order, until they hold more than `tokens`: the last target of a budget is one token further."""
    found, held = [], 0
    for file in track.tokens.files:
        for name in hub.expand(file.name) if file.split == split else []:
            if tokens and held > tokens:
                return found
            found.append(hub.fetch(track.tokens.hub, name, file.sha256, progress))
            held += len(read_shard(found[-1].path))
    return found


def _hash(files: list[hub.Checked]) -> str:
    return hashlib.sha256("".join(f"{file.sha256}\n" for file in files).encode()).hexdigest()
