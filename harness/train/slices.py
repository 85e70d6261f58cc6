"""State in safetensors files, of which each may have some rows of a tensor and say which: any number of ranks reads what any
other number wrote. What is read stays mapped to the files, whose pages the kernel may drop and read again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.train.shards import Rows

ROWS = "rows"  # in a file's metadata, of the tensors it has a slice of: JSON {name: [first row, the one behind the last, of]}


class Stack:
    """A tensor in slices along its first axis, in the order of their rows: they are joined where they are asked for."""

    def __init__(self, slices: Sequence[Tensor]):
        self.slices = slices
        self.shape = torch.Size((sum(map(len, slices)), *slices[0].shape[1:]))

    def __getitem__(self, rows: slice | EllipsisType) -> Tensor:
        """`rows`: from one up to another, or `...` for all."""
        first, end = (0, self.shape[0]) if rows is ... else (rows.start, rows.stop)
        found, at = [], 0
        for each in self.slices:
            wanted = each[max(0, first - at) : max(0, end - at)]
            at += len(each)
            found += [wanted] if len(wanted) else []
        return found[0] if len(found) == 1 else torch.cat(found)


def write(path: Path, tensors: Mapping[str, Tensor], rows: Mapping[str, Rows]) -> None:
    """`rows`: of the tensors that are slices. Raises: OSError, SafetensorError."""
    told = {ROWS: json.dumps({name: list(each) for name, each in rows.items()})} if rows else None
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path, told)


def read(paths: Sequence[Path]) -> dict[str, Tensor | Stack]:
    """All tensors of these files, whose content is known to be what was written, by name.

    Raises:
        ValueError: a file cannot be read, or together they have not each row of each tensor once; it names the file.
    """
    found: dict[str, Any] = {}
    parts: dict[str, list[_Part]] = {}
    for path in paths:
        for name, tensor, rows in _content(path):
            if rows is not None:
                parts.setdefault(name, []).append(_Part(rows, path, tensor))
            elif found.setdefault(name, tensor) is not tensor:
                raise ValueError(f"{path} has {name}, which another file has too")
    for name, of_stack in parts.items():
        of_stack.sort(key=lambda part: part.rows)
        _check(name, of_stack)
        if name in found:
            raise ValueError(f"{of_stack[0].path} has a slice of {name}, which another file has whole")
        found[name] = Stack([part.tensor for part in of_stack])
    return found


class _Part(NamedTuple):
    rows: Rows
    path: Path
    tensor: Tensor


def _content(path: Path) -> list[tuple[str, Tensor, Rows | None]]:
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {}).get(ROWS, "{}"))
            return [(name, file.get_tensor(name), Rows(*told[name]) if name in told else None) for name in file.keys()]
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _check(name: str, parts: list[_Part]) -> None:
    first, at = parts[0], 0
    for rows, path, tensor in parts:
        if rows.first != at or rows.of != first.rows.of:
            raise ValueError(f"{path} has rows {rows.first} to {rows.end} of {rows.of} of {name} where {at} comes next")
        if (tensor.dtype, *tensor.shape) != (first.tensor.dtype, rows.end - rows.first, *first.tensor.shape[1:]):
            raise ValueError(f"{path} has {name} of {tensor.dtype} {tuple(tensor.shape)}, unlike {first.path}")
        at = rows.end
    if at != first.rows.of:
        raise ValueError(f"{parts[-1].path} has the last rows of {name} up to {at}, of {first.rows.of}")
