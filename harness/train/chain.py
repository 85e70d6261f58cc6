"""The hash chain of a run: one link a step over loss, gradient norm and expert counts.

Two runs with equal chains went through the same numbers at every step, not only at the end.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.train.shards import WHOLE, Shards

START = hashlib.sha256(b"moe-speedrun chain 1").hexdigest()


def extend(chain: str, loss: float, grad_norm: float, counts: list[list[int]]) -> str:
    """The next link. `loss` and `grad_norm` are fp32 values; a Python float holds them exactly."""
    digest = hashlib.sha256(bytes.fromhex(chain))
    digest.update(torch.tensor([loss, grad_norm], dtype=torch.float32).numpy().tobytes())
    digest.update(torch.tensor(counts, dtype=torch.int64).numpy().tobytes())
    return digest.hexdigest()


def hash_tensors(tensors: Mapping[str, Tensor], shards: Shards = WHOLE) -> str:
    """sha256 over names, dtypes, shapes and bytes, in the order of names. `shards`: what of them are slices, whose whole is
    hashed; all ranks that have some call it, and have the same answer."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name]
        digest.update(f"{name} {t.dtype} {shards.shape(name, t)}\n".encode())
        for piece in shards.pieces(name, t):
            digest.update(content(piece))
    return shards.ranks.broadcast(digest.hexdigest())


def content(t: Tensor) -> memoryview:
    """The bytes of a tensor, in the order of its axes."""
    return t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def hash_weights(model: nn.Module, shards: Shards = WHOLE) -> str:
    """The hash of parameters and persistent buffers (the routing bias among them)."""
    return hash_tensors(model.state_dict(), shards)
