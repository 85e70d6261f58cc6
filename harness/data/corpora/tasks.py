"""A corpus of generated tasks: no files, no end. Rows of training are `Mix.row`, val is `Mix.val`, and the two share no
instance: the hash of a question says which of them it belongs to.

What a hash stands for: `val`, its tokens and which of them are answers; `train`, the sample of rows that densities are
measured on. Both are held against the track's where tasks, difficulties and the length of a row are what the track was made of.
"""

from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Self

import numpy as np

from harness.data.artifact import Progress, derived
from harness.data.corpora import NOTHING, Val, Wanted
from harness.data.rows import Mix
from harness.errors import UserError
from harness.plan.fingerprint import flattened
from harness.plan.schema import Track
from harness.plan.steps import Steps
from harness.plan.tasks import made_of


@dataclass(frozen=True)
class Corpus:
    mix: Mix
    val: np.ndarray  # uint8
    answer_N: np.ndarray
    hashes: dict[str, str]
    token_bytes = None
    parts = beside = NOTHING

    @classmethod
    def load(cls, wanted: Wanted, progress: Progress | None) -> Self:
        """Generates val, or reads it where it was generated before."""
        track, data = wanted.track, wanted.data
        if not (data.tasks and wanted.sequence_length):
            raise UserError(
                f"which tasks track {track.name} is made of is said by a lane, and none was named",
                "name a lane of the track, and data.tasks",
            )
        made = made_of(
            {"data.tasks": data.tasks, "model.sequence_length": wanted.sequence_length}
            | flattened({"task": asdict(wanted.task)})
        )
        mix = Mix.of(data.tasks, data.task_shares, wanted.task, wanted.sequence_length)
        train = sha256("".join(f"{name} {mix.samples[name].sha256}\n" for name in sorted(mix.samples)).encode()).hexdigest()

        def generate() -> np.ndarray:
            if progress:
                progress(f"generating val of track {track.name}: {made}")
            return np.stack([part.astype(np.uint8) for part in mix.val(track.tokens.val_tokens)])

        # The sample's hash is in the key: generators that make other instances make other ones of training too.
        key = {"made_of": made, "tokens": track.tokens.val_tokens, "sample": train}
        val, answer_N = derived("tasks-val", key, generate)
        hashes = {"train": train, "val": sha256(val.tobytes() + answer_N.tobytes()).hexdigest()}
        for split, found in hashes.items() if made == track.tokens.made_of else ():
            _check_hash(track, split, found)
        return cls(mix, val, answer_N.astype(bool), hashes)

    @classmethod
    def load_val(cls, wanted: Wanted, progress: Progress | None) -> Val:
        found = cls.load(wanted, progress)
        return Val(found.val, None, found.hashes["val"], found.answer_N)

    def batches(self, seed: int, steps: Steps, sequence_length: int) -> Any:
        from harness.data.task_batches import TaskBatches

        return TaskBatches(self.mix, seed, steps, sequence_length)

    def facts(self) -> dict[str, Any]:
        """The record's `data`: an answer counts as one byte."""
        return {
            "train_sha256": self.hashes["train"], "val_sha256": self.hashes["val"],
            "train_bytes": None, "val_bytes": int(self.answer_N.sum()), "tokenizer": "tasks", "val_tokens": len(self.val),
        }  # fmt: skip

    @property
    def train_length(self) -> None:
        """It has no end."""
        return None

    def examine(self, progress: Progress | None = None) -> tuple[None, dict[str, str]]:
        return None, {
            "answers": f"{self.mix.density:.1%} of the tokens of training, {int(self.answer_N.sum()):,} of val",
            "shares": said_shares(self.mix),
            "overlap": "none: the hash of its question says whether an instance is of train or of val",
        }


def said_shares(mix: Mix) -> str:
    """The share of each task among the scored tokens, and among the rows."""
    of_rows = mix.of_rows
    return ", ".join(f"{name} {share:.1%} ({of_rows[name]:.1%})" for name, share in mix.shares.items())


def _check_hash(track: Track, split: str, found: str) -> None:
    if (stated := getattr(track, f"{split}_sha256")) and found != stated:
        raise UserError(
            f"{split} of track {track.name} has the wrong sha256: expected {stated}, found {found}",
            "the generators in harness/data/task are not those of the track: git checkout harness/data, or make a new track",
        )
