"""The batch of a step as a pure function of (train, seed, step): nothing is iterated, so resuming needs only the step.

An epoch cuts train into disjoint windows of S targets (S + 1 bytes: neighbours share one, the last target of one being the
first input of the next), starting at an offset in [0, S) that is keyed by (seed, epoch), and visits them in an order keyed
likewise. A step takes the next windows, as many as its tokens fill, and goes on into the next epoch where one ends. Every epoch
has floor((N - S) / S) windows, which fit at any offset: the window of a step is found by a division, at the cost of fewer than
2S bytes that an epoch leaves out, others in each.
"""

from functools import lru_cache

import numpy as np
import torch

from harness.errors import UserError
from harness.keyed import generator
from harness.plan.steps import Steps


class Batches:
    """Batches of one track and seed. Shapes: B sequences of this rank, S sequence length."""

    def __init__(self, train: np.ndarray, seed: int, steps: Steps, sequence_length: int):
        """`train`: uint8 (or any other whole-number tokens), 1-D, length N; never copied or written.

        Raises: UserError when a step is not a whole number of sequences or train is shorter than one step.
        """
        self.train, self.seed, self.steps, self.sequence_length = train, seed, steps, sequence_length
        largest = most_sequences(steps, sequence_length)
        self.windows_per_epoch = max(len(train) - sequence_length, 0) // sequence_length
        if self.windows_per_epoch < largest:
            raise UserError(
                f"train has {len(train):,} tokens: {self.windows_per_epoch} windows of {sequence_length}, "
                f"fewer than the {largest} of one step",
                f"take steps of at most {self.windows_per_epoch * sequence_length}, or shorten the sequences",
            )

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """(inputs_BS, targets_BS) of a step counted from 0, int64, contiguous; targets are the inputs one token later.

        Of the n sequences of the global batch rank r of w gets [r n / w, (r + 1) n / w). Raises: UserError when w does not
        divide n.
        """
        starts_B = self._starts(*rank_slice(self.steps, self.sequence_length, step, rank, world))
        tokens = self.train[starts_B[:, None] + np.arange(self.sequence_length + 1)].astype(np.int64)
        inputs_BS, targets_BS = (np.ascontiguousarray(view) for view in (tokens[:, :-1], tokens[:, 1:]))
        return torch.from_numpy(inputs_BS), torch.from_numpy(targets_BS)

    def scored(self, step: int) -> int:
        """Targets of a step over all ranks: every token has one."""
        return self.steps.tokens(step)

    def _starts(self, first: int, count: int) -> np.ndarray:
        """Where in train the windows number first .. first + count - 1 begin, int64; a step spans two epochs at most."""
        epoch, index = divmod(first, self.windows_per_epoch)
        starts = epoch_starts(self.seed, epoch, self.windows_per_epoch, self.sequence_length)[index : index + count]
        if len(starts) < count:
            following = epoch_starts(self.seed, epoch + 1, self.windows_per_epoch, self.sequence_length)
            starts = np.concatenate([starts, following[: count - len(starts)]])
        return starts


def most_sequences(steps: Steps, sequence_length: int) -> int:
    """How many the largest step has. Raises: UserError where that is no whole number in every step."""
    for tokens in (stage.tokens for stage in steps.stages):
        if sequence_length < 1 or tokens < 1 or tokens % sequence_length:
            raise UserError(
                f"a step of {tokens} tokens is not a whole number of sequences of {sequence_length}",
                f"take steps of a multiple of model.sequence_length={sequence_length}",
            )
    return steps.largest // sequence_length


def rank_slice(steps: Steps, sequence_length: int, step: int, rank: int, world: int) -> tuple[int, int]:
    """(number of the rank's first sequence, counted from the start of training; how many it takes) of a step.

    Raises: UserError when the ranks cannot share the step equally.
    """
    sequences = steps.tokens(step) // sequence_length
    if sequences % world:
        raise UserError(
            f"{sequences} sequences a step cannot be shared equally by {world} ranks",
            f"start as many ranks as divide {sequences}, or take steps of other sizes",
        )
    assert 0 <= rank < world, (rank, world)
    share = sequences // world
    return steps.before(step) // sequence_length + rank * share, share


@lru_cache(maxsize=2)  # only speed: a step needs one epoch, or two where it spans them
def epoch_starts(seed: int, epoch: int, windows: int, sequence_length: int) -> np.ndarray:
    """First bytes of an epoch's windows in the order it visits them: int64, (windows,), read-only.

    Both draws are raw 64-bit words of Philox keyed by (seed, "data order", epoch): the first word modulo S is the offset, the
    stable argsort of the next `windows` words the order. Raw words are the same in every numpy release; `permutation` is not
    promised to be (NEP 19).
    """
    words = generator(seed, "data order", epoch).bit_generator.random_raw(1 + windows)
    starts = int(words[0] % np.uint64(sequence_length)) + np.argsort(words[1:], kind="stable") * sequence_length
    starts.flags.writeable = False
    return starts
