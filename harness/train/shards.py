"""State of which each rank has some rows: stacks of experts that are spread over ranks, and what an optimizer keeps of them.

Letters: P ranks, E experts of a stack, N = E/P of them on each rank, X whatever follows.

A tensor of state is such a slice where its name ends in that of a spread parameter and its first axis is as long as what is
held of it. Every other tensor is whole, and the same on all ranks. Names, and the numbers of rows, are those of one process.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.errors import UserError
from harness.model.init import owned
from harness.model.part import Part
from harness.ranks import ALONE, Ranks


class Rows(NamedTuple):
    """Those from `first` up to `end` of a stack of `of` rows."""

    first: int
    end: int
    of: int


class Shards:
    """`spread`: by the names of a model's parameters, which rows of them this rank holds; rank r has the r-th of P equal parts.
    `ranks`: those that state is spread over. Where it is spread over none this process stands alone, however many train: it has
    everything, and no method sends anything."""

    def __init__(self, spread: Mapping[str, Rows], ranks: Ranks):
        self.spread, self.ranks = dict(spread), ranks if spread else ALONE
        for rows in self.spread.values():
            number, world = rows.end - rows.first, self.ranks.world
            assert (rows.first, rows.of) == (self.ranks.rank * number, world * number), (rows, self.ranks)

    @classmethod
    def of(cls, model: Part, ranks: Ranks) -> "Shards":
        stacks = ((name, part) for name, _, part, own in owned(model) if own.by_expert and len(part.held) < part.num_experts)
        return cls({name: Rows(part.held.start, part.held.stop, part.num_experts) for name, part in stacks}, ranks)

    def rows(self, name: str, tensor: Tensor) -> Rows | None:
        """Which rows of the whole a tensor of this rank's state is; None: all of it."""
        words = name.split(".")
        tails = (".".join(words[at:]) for at in range(len(words)))
        rows = next((self.spread[tail] for tail in tails if tail in self.spread), None)
        return rows if rows and tensor.ndim and len(tensor) == rows.end - rows.first else None

    def shape(self, name: str, tensor: Tensor) -> tuple[int, ...]:
        """The shape of the whole."""
        rows = self.rows(name, tensor)
        return tuple(tensor.shape) if rows is None else (rows.of, *tensor.shape[1:])

    def own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What this rank has to keep of its state: its slices, and on the first rank all the rest."""
        return {name: t for name, t in tensors.items() if self.ranks.is_first or self.rows(name, t)}

    def pieces(self, name: str, tensor: Tensor) -> Iterator[Tensor]:
        """On the first rank the whole tensor, one rank's rows after another's, so that it never has more than one of them
        beside its own state; on the others nothing, or none of its rows. All ranks go through it to the end."""
        if self.rows(name, tensor) is None:
            yield from [tensor.detach()] if self.ranks.is_first else []
            return
        rank, world = self.ranks.rank, self.ranks.world
        for source in range(world):
            mine = tensor.detach()[: len(tensor) if rank == source else 0]
            received = [len(tensor) if rank == 0 and other == source else 0 for other in range(world)]
            yield self.ranks.exchange_rows(mine, [len(mine)] + [0] * (world - 1), received)

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """(E, X) of a slice (N, X), on every rank."""
        if self.rows(name, tensor) is None:
            return tensor
        return self.ranks.everyones(tensor.detach().contiguous()).flatten(0, 1)

    def whole_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """State as one process would hold it, on every rank."""
        return {name: self.whole(name, tensor) for name, tensor in state.items()}

    @torch.no_grad()
    def fill(self, live: Mapping[str, Tensor], saved: Mapping[str, Any]) -> None:
        """Copies what is saved into live tensors, of which each may be a slice. `saved`: whole, as tensors or as what has their
        `shape` and gives rows of them, such as `harness.train.slices.Stack`.

        Raises:
            UserError: names or shapes differ.
        """
        remedy = "start it under the plan it was made with"
        if live.keys() != saved.keys():
            odd = sorted(live.keys() ^ saved.keys())
            raise UserError(f"the checkpoint does not fit this plan: {', '.join(odd[:4])}", remedy)
        for name, tensor in live.items():
            found, expected = tuple(saved[name].shape), self.shape(name, tensor)
            if found != expected:
                raise UserError(f"the checkpoint does not fit this plan: {name} is {found}, not {expected}", remedy)
            rows = self.rows(name, tensor)
            tensor.copy_(saved[name][...] if rows is None else saved[name][rows.first : rows.end])


WHOLE = Shards({}, ALONE)
