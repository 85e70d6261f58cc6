"""Which rows go where, and in which order they come: without a message, from ids and counts alone.

Letters: T tokens, K top-k, R rows kept, E experts, P ranks, N = E/P experts of each.

A row is a (token, slot) that is not dropped. A rank sends its rows in the order (expert, token, slot), so that those of one
rank's experts lie together; the owner has them by (source, expert, token, slot), and sources stand in the order of ranks, which
is that of units. Counts (P, N) say everything: no id and no number of a row is sent.
"""

from typing import NamedTuple

import torch
from torch import Tensor


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
