"""Sums of squares in fp64, of gradients and of what updates do.

Letters: E experts, N numbers of each.
"""

import torch
from torch import Tensor

CHUNK = 1 << 20  # elements that are widened to fp64 at once: 8 MiB, which a CPU's cache holds


def squares(t: Tensor) -> Tensor:
    """fp64 () on the device."""
    return sum(chunk.double().square_().sum() for chunk in t.reshape(-1).split(CHUNK))


def slice_squares(stack: Tensor) -> Tensor:
    """fp64 (E,) on the device, of the slices along the first axis."""
    slice_EN = stack.flatten(1)
    at_once = max(1, CHUNK // slice_EN.shape[1])
    return torch.cat([some.double().square_().sum(1) for some in slice_EN.split(at_once)])


def slice_norm(gradient: Tensor, by_expert: bool) -> Tensor:
    """fp32 () on the device: the root of its slices' squares, summed in their order. The slices are the experts of a stack of
    them, so that whoever has some experts alone has a part of the sum; else it is one slice."""
    return (slice_squares(gradient).sum() if by_expert else squares(gradient)).sqrt().float()
