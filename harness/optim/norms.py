"""Sums of squares in fp64, of gradients and of what updates do.

Letters: E experts, N numbers of each.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.ranks import ALONE, Ranks

CHUNK = 1 << 20  # elements that are widened to fp64 at once: 8 MiB, which a CPU's cache holds


def squares(t: Tensor) -> Tensor:
    """fp64 () on the device."""
    return sum(chunk.double().square_().sum() for chunk in t.reshape(-1).split(CHUNK))


def slice_squares(stack: Tensor) -> Tensor:
    """fp64 (E,) on the device, of the slices along the first axis."""
    slice_EN = stack.flatten(1)
    at_once = max(1, CHUNK // slice_EN.shape[1])
    return torch.cat([some.double().square_().sum(1) for some in slice_EN.split(at_once)])


@dataclass(frozen=True)
class Squares:
    """Sums of squares over whole parameters. Those of `stacks`, one slice an expert, are sums over slices in their order, and
    where `ranks` hold some of the slices each, over those of all of them: no bit depends on how many ranks there are."""

    stacks: frozenset[str] = frozenset()
    ranks: Ranks = ALONE

    def here(self, name: str, t: Tensor) -> Tensor:
        """fp64, of what this process holds of a parameter: of the slices (E,), else ()."""
        return slice_squares(t) if name in self.stacks else squares(t)

    def whole(self, here: dict[str, Tensor]) -> dict[str, Tensor]:
        """fp64 (), of parameters by their names, of what `here` found. One message."""
        found = dict(here)
        if stacked := [name for name in here if name in self.stacks]:
            part_PE = self.ranks.everyones(torch.cat([here[name] for name in stacked]))
            sizes = [len(here[name]) for name in stacked]
            found |= {name: slices.flatten().sum() for name, slices in zip(stacked, part_PE.split(sizes, 1))}
        return found

    def norms(self, tensors: dict[str, Tensor]) -> Tensor:
        """fp32 (parameters,) on the device, in their order."""
        found = self.whole({name: self.here(name, t) for name, t in tensors.items()})
        return torch.stack([square.sqrt().float() for square in found.values()])

    def numbers(self, name: str, p: Tensor) -> int:
        """How many a parameter has, of which this process holds `p`."""
        return p.numel() * (self.ranks.world if name in self.stacks else 1)


PLAIN = Squares()
