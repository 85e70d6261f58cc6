"""What a format must be told where a unit's rows are computed by several ranks: `kernels.beside`, source by source.

Letters: P ranks, S rows that this one gets, N experts that it has, T tokens and K top-k of a unit. Where a format has scales of
a whole tensor, all ranks take the same source's rows at the same time, with none too, and find the largest magnitude together.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from harness.ranks import Ranks
from kernels.beside import Beside

AT_SOURCE = ("input", "gradient")  # quantized by token, tokens whose rows were all dropped among them


class Met(NamedTuple):
    """From every source, on the host: the rows for each expert here (int64), the number of the first slot here (int64), and the
    largest magnitude of its unit's inputs or gradients (fp32)."""

    count_PN: Tensor
    first_P: Tensor
    largest_P: Tensor


class Places:
    """`shape`: (T, K) of a unit, `key_4` of this rank's own; `row_S`: the numbers of the rows that came."""

    def __init__(self, ranks: Ranks, key_4: Tensor, shape: torch.Size, row_S: Tensor, met: Met):
        self.ranks, self.key_4, self.met = ranks, key_4, met
        self.tokens, self.top_k = shape
        self.rows_P = row_S.split(met.count_PN.sum(1).tolist())

    def __call__(self, source: int) -> tuple[Tensor, Beside]:
        """The key of a source's unit, and what its rows here stand beside."""
        key_4 = self.key_4.clone()
        key_4[2] += (source - self.ranks.rank) * self.tokens
        first = int(self.met.first_P[source])
        return key_4, Beside(self.rows_P[source], self.top_k, first, partial(self._largest, source))

    def _largest(self, source: int, tensor: str, found: Tensor) -> Tensor:
        if tensor in AT_SOURCE:
            return self.met.largest_P[source].to(found.device)
        found = torch.where(torch.isfinite(found), found, torch.inf).reshape(1)  # what is none may be lost on the way
        self.ranks.max_(found)
        return found[0]
