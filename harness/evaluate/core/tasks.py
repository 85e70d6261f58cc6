"""CORE's tasks as typed data: what `core.yaml`, the baseline tables and the task files say, each example in published order.

Every example, of whichever type, is a list of options, each a (context, continuation) pair:
- multiple_choice: one query with each choice;
- schema: each context with the one continuation;
- language_modeling: one option, its context trimmed.
Published order: the file's lines shuffled by `random.Random(1337)`, as the published procedure does; an example's index is its
place in that order. `max_per_task` of an evaluation takes the first ones.
"""

import csv
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.evaluate.core import bundle

ORDER_SEED = 1337
DELIMITER = " "  # where core.yaml gives none
# v1 is what published CORE figures subtract; v2 corrects some of its entries
BASELINES = {"v1": "eval_meta_data_v1.csv", "v2": "eval_meta_data.csv"}


@dataclass(frozen=True)
class Example:
    options: tuple[tuple[str, str], ...]  # (context, continuation)
    gold: int  # index of the right option; 0 for language_modeling


@dataclass(frozen=True)
class Task:
    label: str
    type: str  # a key of READERS
    shots: int
    delimiter: str  # between context and continuation
    baseline_v1: float  # accuracy of guessing, in [0, 1)
    baseline_v2: float
    examples: tuple[Example, ...]  # in published order

    def count(self, max_per_task: int | None) -> int:
        """How many examples an evaluation scores: the first ones, all by default."""
        return len(self.examples) if max_per_task is None else min(max_per_task, len(self.examples))


def load(place: Path | None = None) -> list[Task]:
    """All tasks in the order of `core.yaml`, from a verified bundle (the published one by default).

    Raises: UserError when a file, a baseline or a field is missing or has a value that it cannot have.
    """
    place = place or bundle.folder()
    baselines = {version: _baselines(place / name) for version, name in BASELINES.items()}
    config = yaml.safe_load((place / "core.yaml").read_text(encoding="utf-8"))
    return [_task(place, entry, baselines) for entry in config["icl_tasks"]]


def _task(place: Path, entry: dict[str, Any], baselines: dict[str, dict[str, float]]) -> Task:
    label, kind = entry["label"], entry["icl_task_type"]
    if kind not in READERS:
        raise UserError(f"{label} has icl_task_type {kind!r}", f"known: {', '.join(READERS)}")
    for version, table in baselines.items():
        if label not in table:
            raise UserError(f"{label} has no random baseline in {BASELINES[version]}", "CORE cannot be computed without it")
    examples = _examples(place / bundle.DATA / entry["dataset_uri"], READERS[kind])
    (shots,) = entry["num_fewshot"]
    if len(examples) <= shots:
        raise UserError(f"{label} has {len(examples)} examples, too few for {shots} shots", "")
    random.Random(ORDER_SEED).shuffle(examples)
    delimiter = entry.get("continuation_delimiter", DELIMITER)
    return Task(label, kind, shots, delimiter, baselines["v1"][label], baselines["v2"][label], tuple(examples))


def _baselines(path: Path) -> dict[str, float]:
    """Accuracy of guessing by task label; the table gives percent."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = {row["Eval Task"]: row["Random baseline"] for row in csv.DictReader(file)}
    found = {}
    for label, percent in rows.items():
        try:
            found[label] = 0.01 * float(percent)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{path.name}: the random baseline of {label} is {percent!r}", "a percentage belongs there"
            ) from error
        if not 0 <= found[label] < 1:
            raise UserError(f"{path.name}: the random baseline of {label} is {percent}%", "it must be in [0, 100)")
    return found


def _examples(path: Path, read: Callable[[dict[str, Any]], Example]) -> list[Example]:
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            example = read(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} line {number} is not an example: {error!r}", "every example must be scored") from error
        if not (all(isinstance(text, str) for pair in example.options for text in pair)
                and 0 <= example.gold < len(example.options)):  # fmt: skip
            raise UserError(f"{path} line {number}: {example.gold=} of {len(example.options)} options of text", "")
        found.append(example)
    return found


def _multiple_choice(row: dict[str, Any]) -> Example:
    return Example(tuple((row["query"], choice) for choice in row["choices"]), row["gold"])


def _schema(row: dict[str, Any]) -> Example:
    return Example(tuple((context, row["continuation"]) for context in row["context_options"]), row["gold"])


def _language_modeling(row: dict[str, Any]) -> Example:
    return Example(((row["context"].strip(), row["continuation"]),), 0)


READERS = {"multiple_choice": _multiple_choice, "schema": _schema, "language_modeling": _language_modeling}
