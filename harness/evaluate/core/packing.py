"""Rows and batches: options of an example share their common token prefix in one row, rows of like length share a batch.

Letters: B rows, S tokens. A row is a shared prefix followed by branches, one for each distinct option. A branch begins with
the last token of the common prefix, because what follows it differs; its positions continue from the prefix, and it sees the
prefix and itself. So every option is read exactly as if it stood alone. A row may be longer than the model's context; no
option in it is. Options that had to be cropped share nothing: each has a row of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix

import torch
from torch import Tensor

from harness.evaluate.core.prompts import Item, cropped

SHARED, PADDING = 0, -1  # numbers of branches; real ones count from 1


@dataclass(frozen=True)
class Row:
    """Parallel lists over tokens; `spans`: for each option in the row (number, first, stop) of its scored targets."""

    example: int
    inputs: list[int]
    targets: list[int]
    positions: list[int]
    branches: list[int]
    spans: list[tuple[int, int, int]]

    @property
    def branched(self) -> bool:
        return max(self.branches) > 1


@dataclass(frozen=True)
class Batch:
    """Tensors (B, S) as `LanguageModel.score` takes them; both of the last None where every row is one plain sequence."""

    rows: tuple[Row, ...]
    input_BS: Tensor
    target_BS: Tensor
    position_BS: Tensor | None
    visible_BSS: Tensor | None


def rows(example: int, item: Item, context: int, packs: bool = True) -> list[Row]:
    """The rows of one example; a model that does not pack reads every option by itself. Options with the same tokens are read
    once, so that they always tie. Raises: as `cropped`."""
    if not packs:
        whole = item if max(map(len, item.options)) <= context else cropped(item, context)
        return [_row(example, whole, [number]) for number in range(len(item.options))]
    if max(map(len, item.options)) <= context:
        return [_row(example, item, range(len(item.options)))]
    short = cropped(item, context)
    kept = [i for i, option in enumerate(item.options) if len(option) <= context]
    alone = [[i] for i, option in enumerate(item.options) if len(option) > context]
    return [_row(example, short, numbers) for numbers in ([kept] if kept else []) + alone]


def _row(example: int, item: Item, numbers: Sequence[int]) -> Row:
    options = [item.options[i] for i in numbers]
    # a schema's scored suffix may begin inside the common prefix, as in "a a" and "a a a": then less is shared
    prefix = min(len(commonprefix(options)), *(item.starts[i] for i in numbers)) - 1
    row = Row(example, list(options[0][:prefix]), list(options[0][1 : prefix + 1]), list(range(prefix)), [SHARED] * prefix, [])
    first: dict[tuple[int, ...], int] = {}  # where each distinct option's branch begins
    for number, option in zip(numbers, options):
        if option not in first:
            first[option] = len(row.inputs)
            row.inputs.extend(option[prefix:-1])
            row.targets.extend(option[prefix + 1 :])
            row.positions.extend(range(prefix, len(option) - 1))
            row.branches.extend([len(first)] * (len(option) - 1 - prefix))
        shift = first[option] - prefix - 1  # from an option's token to the place in the row where it is the target
        row.spans.append((number, item.starts[number] + shift, len(option) + shift))
    return row


def batches(rows: Sequence[Row], token_budget: int, padding: int) -> list[Batch]:
    """Rows sorted by length and cut so that rows x longest stays within the budget (a longer row is alone). Deterministic."""
    found: list[Batch] = []
    group: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.inputs)):  # stable: ties stay in order
        if group and (len(group) + 1) * len(row.inputs) > token_budget:
            found.append(_batch(group, padding))
            group = []
        group.append(row)
    return [*found, _batch(group, padding)] if group else found


def _batch(rows: Sequence[Row], padding: int) -> Batch:
    length = max(len(row.inputs) for row in rows)

    def padded(name: str, value: int) -> Tensor:
        return torch.tensor([getattr(row, name) + [value] * (length - len(row.inputs)) for row in rows])

    input_BS, target_BS = padded("inputs", padding), padded("targets", padding)
    if not any(row.branched for row in rows):
        return Batch(tuple(rows), input_BS, target_BS, None, None)
    position_BS, branch_BS = padded("positions", 0), padded("branches", PADDING)
    seen_BSS = (branch_BS[:, None, :] == SHARED) | (branch_BS[:, None, :] == branch_BS[:, :, None])
    visible_BSS = seen_BSS & (position_BS[:, None, :] <= position_BS[:, :, None])
    return Batch(tuple(rows), input_BS, target_BS, position_BS, visible_BSS)
