"""Batches of several strands of text: which sequence is of which strand, and which window of it, as pure functions of the seed
and the sequence's number.

Mixed: every BLOCK sequences hold each strand as often as its share says, to one sequence, in an order keyed by (seed, block).
So the number of a strand's own sequences before any other one is known without counting. Staged: strand follows strand. A
strand is cut into windows and epochs as `batches.py` cuts a train, keyed by (seed, the strand's name).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from harness.data.batches import Batches, epoch_starts, most_sequences, rank_slice
from harness.data.turned import NOISE, Turned
from harness.errors import UserError
from harness.keyed import generator
from harness.plan.steps import Steps

BLOCK = 1000  # sequences: a share is exact to a thousandth


class Mixed:
    """Batches of one run; shapes as `Batches` has them."""

    def __init__(self, data: Turned, seed: int, steps: Steps, sequence_length: int):
        """Raises: UserError when a step is not a whole number of sequences, or a strand has no window or no sequence."""
        self.strands, self.seed, self.steps, self.sequence_length = data.strands, seed, steps, sequence_length
        most_sequences(steps, sequence_length)
        self.windows = [max(len(strand.text) - sequence_length, 0) // sequence_length for strand in data.strands]
        for strand, windows in zip(data.strands, self.windows):
            if not windows:
                why = f"has {len(strand.text):,} tokens to train on, less than a window of {sequence_length}"
                raise _too_little(strand.name, why, "keep more of it")
        self.seeds = [_seed(seed, strand.name) for strand in data.strands]
        shares = [strand.share for strand in data.strands]
        sequences = steps.total // sequence_length if data.staged else BLOCK
        self.counts = counts(shares, sequences)
        for strand, count in zip(data.strands, self.counts):
            if not count:
                why = f"has {strand.share:.2g} of the sequences, none of {sequences:,}"
                raise _too_little(strand.name, why, "give it more weight or more text")
        self.bounds = np.cumsum([0, *self.counts]) if data.staged else None
        self._order = lru_cache(maxsize=4)(self._order_of)
        self._starts = lru_cache(maxsize=2 * len(data.strands))(epoch_starts.__wrapped__)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Batches.batch`."""
        first, count = rank_slice(self.steps, self.sequence_length, step, rank, world)
        rows = np.stack([self._row(number) for number in range(first, first + count)]).astype(np.int64)
        inputs_BS, targets_BS = (np.ascontiguousarray(view) for view in (rows[:, :-1], rows[:, 1:]))
        return torch.from_numpy(inputs_BS), torch.from_numpy(targets_BS)

    def scored(self, step: int) -> int:
        return self.steps.tokens(step)

    def place(self, number: int) -> tuple[int, int]:
        """(strand, number among its own) of a sequence, both from 0."""
        if self.bounds is not None:
            strand = int(np.searchsorted(self.bounds, min(number, self.bounds[-1] - 1), "right")) - 1
            return strand, int(number - self.bounds[strand])
        block, at = divmod(number, BLOCK)
        order, before = self._order(block)
        return int(order[at]), block * self.counts[order[at]] + int(before[at])

    def _order_of(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """(strand of each of the block's sequences, how many of the same strand come before it in the block)."""
        sorted_ = np.repeat(np.arange(len(self.counts)), self.counts)
        order = sorted_[np.argsort(generator(self.seed, "mixture", block).bit_generator.random_raw(BLOCK), kind="stable")]
        before = np.zeros(BLOCK, np.int64)
        for strand in range(len(self.counts)):
            before[order == strand] = np.arange(self.counts[strand])
        return order, before

    def _row(self, number: int) -> np.ndarray:
        strand, own = self.place(number)
        epoch, index = divmod(own, self.windows[strand])
        start = self._starts(self.seeds[strand], epoch, self.windows[strand], self.sequence_length)[index]
        return self.strands[strand].text[start : start + self.sequence_length + 1]


def _too_little(strand: str, why: str, more: str) -> UserError:
    """What is said of a strand that training cannot read."""
    of_noise = "choose a larger data.noise_share, or data.order=mixed"
    return UserError(f"{strand} {why}", of_noise if strand == NOISE else f"leave it out of data.sources, or {more}")


def _seed(seed: int, strand: str) -> int:
    """What keys the windows of a strand."""
    return generator(seed, "strand", strand).bit_generator.random_raw() >> 1


def counts(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers that sum to `total` and are nearest to these shares of it; the largest remainders are rounded up, the first
    of equal ones, equal to what fp64 resolves."""
    exact = [share * total / sum(shares) for share in shares]
    found = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (round(found[i] - exact[i], 9), i))
    for i in by_remainder[: total - sum(found)]:
        found[i] += 1
    return found


def batches_of(data: Turned, seed: int, steps: Steps, sequence_length: int) -> Batches | Mixed:
    """One strand is a train of its own."""
    return (
        Batches(data.strands[0].text, seed, steps, sequence_length)
        if len(data.strands) == 1
        else Mixed(data, seed, steps, sequence_length)
    )
