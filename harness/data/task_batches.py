"""The batch of a step over generated tasks, a pure function of (seed, step): rows are made as they are asked for.

Row number r of training, counted from its start, is the same whatever the batches and ranks are.
"""

from functools import lru_cache

import numpy as np
import torch

from harness.data.batches import most_sequences, rank_slice
from harness.data.rows import Mix, Row
from harness.plan.steps import Steps
from harness.targets import IGNORED


class TaskBatches:
    """Shapes: B sequences of this rank, S sequence length."""

    def __init__(self, mix: Mix, seed: int, steps: Steps, sequence_length: int):
        """Raises: UserError when a step is not a whole number of sequences."""
        assert sequence_length == mix.length, (sequence_length, mix.length)
        self.mix, self.seed, self.steps, self.sequence_length = mix, seed, steps, sequence_length
        # A step asks for its rows three times: for the batch, for how many answers all ranks have, for who sees whom.
        self._row = lru_cache(maxsize=most_sequences(steps, sequence_length))(self._made)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """(inputs_BS, targets_BS) of a step counted from 0, int64, contiguous; a target is the next token where that is an
        answer, else IGNORED.

        Of the n sequences of the global batch rank r of w gets [r n / w, (r + 1) n / w). Raises: UserError when w does not
        divide n.
        """
        rows = self._rows(step, rank, world)
        inputs_BS = np.stack([row.token_S for row in rows]).astype(np.int64)
        targets_BS = np.full_like(inputs_BS, IGNORED)
        answer_BS = np.stack([row.answer_S for row in rows])[:, 1:]
        targets_BS[:, :-1][answer_BS] = inputs_BS[:, 1:][answer_BS]
        return torch.from_numpy(inputs_BS), torch.from_numpy(targets_BS)

    def scored(self, step: int) -> int:
        """Targets of a step over all ranks that are not IGNORED: what its loss is the mean over."""
        return sum(int(row.answer_S.sum()) for row in self._rows(step, 0, 1))

    def documents(self, step: int, rank: int = 0, world: int = 1) -> torch.Tensor:
        """int64 (B, S): which instance each input is of, by a number that no other instance of the batch has."""
        rows = self._rows(step, rank, world)
        return torch.from_numpy(np.stack([number * self.sequence_length + row.instance_S for number, row in enumerate(rows)]))

    def epochs_after(self, steps: int) -> float:
        """No row is read twice."""
        return 0.0

    def _rows(self, step: int, rank: int, world: int) -> list[Row]:
        first, count = rank_slice(self.steps, self.sequence_length, step, rank, world)
        return [self._row(number) for number in range(first, first + count)]

    def _made(self, number: int) -> Row:
        return self.mix.row(self.seed, number)
