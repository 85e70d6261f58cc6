"""Which rows go where, and in which order they come: without a message, from ids and counts alone.

Letters: T tokens, K top-k, R rows kept, E experts, P ranks, N = E/P experts of each, S rows from one rank.

A row is a (token, slot) that is not dropped. A rank sends its rows in the order (expert, token, slot), so that those of one
rank's experts lie together; the owner has them by (source, expert, token, slot), and sources stand in the order of ranks, which
is that of units. Counts (P, N) say everything: no id and no number of a row is sent.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.backends import Backend


class Outgoing(NamedTuple):
    """`row_R` int64: the rows (t*K + k), by expert; `count_E` int64: how many of each; `place_TK` int64: where each (token,
    slot) stands among `row_R`, R of a dropped one."""

    row_R: Tensor
    count_E: Tensor
    place_TK: Tensor


def outgoing(expert_TK: Tensor, experts: int) -> Outgoing:
    """`expert_TK`: int64 ids in [0, E), -1 of a dropped row. Waits for the device."""
    expert_F = expert_TK.reshape(-1)
    sorted_F, row_F = torch.sort(expert_F, stable=True)
    row_R = row_F[int(torch.searchsorted(sorted_F, 0)) :]
    count_E = torch.bincount(expert_F[row_R], minlength=experts)
    place_F = torch.full_like(expert_F, len(row_R))
    place_F[row_R] = torch.arange(len(row_R), device=expert_F.device)
    return Outgoing(row_R, count_E, place_F.view_as(expert_TK))


class Sources:
    """The rows that came, source by source, and what a backend keeps of each. `count_PN`: int64, on the host, how many each
    source has sent for each expert here."""

    def __init__(self, it: Backend, count_PN: Tensor):
        self.it, self.count_PN, self.rows_P = it, count_PN, count_PN.sum(1).tolist()

    def ids(self, source: int, device: torch.device) -> Tensor:
        """int64 (S, 1): the expert of each of its rows, counted from the first one that is held here."""
        count_N = self.count_PN[source].to(device)
        return torch.arange(len(count_N), device=device).repeat_interleave(count_N).unsqueeze(1)

    def split(self, *row_SX: Tensor) -> list[tuple[Tensor, ...]]:
        """(P) each tensor's rows from every source."""
        return list(zip(*(t.split(self.rows_P) for t in row_SX)))

    def kept(self, h_QG: Tensor, kept: list[Tensor]) -> list[tuple[Tensor, ...]]:
        """What the forward left of each source that has rows."""
        experts, rows = self.count_PN.shape[1], [rows for rows in self.rows_P if rows]
        sizes = [self.it.saved_rows(some, experts) for some in rows]
        shapes = [self.it.kept(some, 1, experts) for some in rows]
        return list(zip(h_QG.split(sizes), *(t.split([shape[i][0] for shape in shapes]) for i, t in enumerate(kept))))

    def nothing(self, x_SD: Tensor, outer: int, expert_TK: Tensor) -> list[Tensor]:
        """What a backend keeps of no rows: pre-activations as wide as `outer`, and its own."""
        shapes = self.it.kept(1, 1, self.count_PN.shape[1])
        return [x_SD.new_empty(0, outer), *(expert_TK.new_empty(0, *shape[1:]) for shape in shapes)]
