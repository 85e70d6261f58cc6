"""The file of a trained model: byte for byte what safetensors writes of it, in pieces, so that no process ever holds all of it.

It begins with a header of 8 bytes for its length, JSON of each tensor's dtype, shape and place, and spaces up to a multiple of
8; the tensors follow without gaps. safetensors orders them by dtype and name, and is asked for both.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from harness.files import replace_atomically
from harness.record.folder import writing
from harness.train.chain import content
from harness.train.shards import WHOLE, Shards

Buffer = bytes | memoryview


def write(path: Path, tensors: Mapping[str, Tensor], shards: Shards = WHOLE) -> None:
    """`shards`: what of the tensors are slices; each of the ranks that have some calls it, and the first one writes.

    Raises:
        UserError: the disk is full, on every one of those ranks.
    """
    pieces = _pieces(tensors, shards)

    def written() -> None:
        try:
            if shards.ranks.is_first:
                with writing(path):
                    replace_atomically(path, pieces)
        finally:
            for _ in pieces:  # the others have only these to do, and the first one where its disk is full
                pass

    shards.ranks.all_or_none(written)


def _pieces(tensors: Mapping[str, Tensor], shards: Shards) -> Iterator[Buffer]:
    header, names = _header({name: (t.dtype, shards.shape(name, t)) for name, t in tensors.items()})
    yield header
    for name in names:
        yield from map(content, shards.pieces(name, tensors[name]))


def _header(kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> tuple[bytes, list[str]]:
    """The first bytes of a file of tensors of these dtypes and shapes, and their names in its order."""
    empty = save({name: torch.empty(0, dtype=dtype) for name, (dtype, _) in kinds.items()})
    told, at = json.loads(empty[8:]), 0
    for name, entry in told.items():
        dtype, shape = kinds[name]
        end = at + math.prod(shape) * dtype.itemsize
        entry |= {"shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, list(told)
