"""Routing metadata on the device: rows sorted by expert, and the tiles that a grid of fixed size works on.

Letters: T tokens, K top-k, E experts, R = T*K rows, I tiles. All shapes follow from T, K, E and the block, so nothing is
read on the host between router and combine; tiles that no expert needed carry expert -1 and return at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Routes:
    """row_R int64: t*K + k of each row in expert order, dropped ones (expert -1) first; row_of_TK int64: where each went;
    start_E1 int64 (E+1): first row of each expert; tile_expert_I, tile_row_I int64: expert (-1: none) and first row of each
    tile of `block_rows` rows."""

    row_R: Tensor
    row_of_TK: Tensor
    start_E1: Tensor
    tile_expert_I: Tensor
    tile_row_I: Tensor


def tile_bound(rows: int, experts: int, block_rows: int) -> int:
    """The most tiles that `rows` rows on `experts` experts can need."""
    return rows // block_rows + min(rows, experts)


def routes(expert_TK: Tensor, num_experts: int, block_rows: int) -> Routes:
    """Stable: rows of one expert keep the order of their tokens. Ids outside [0, num_experts) are the caller's to refuse."""
    device, rows = expert_TK.device, expert_TK.numel()
    expert_R, row_R = torch.sort(expert_TK.reshape(-1), stable=True)
    start_E1 = torch.searchsorted(expert_R, torch.arange(num_experts + 1, device=device))
    row_of_TK = torch.empty_like(row_R).scatter_(0, row_R, torch.arange(rows, device=device)).view(expert_TK.shape)
    tiles_E = (start_E1.diff() + (block_rows - 1)) // block_rows
    last_E = tiles_E.cumsum(0)
    tile_I = torch.arange(tile_bound(rows, num_experts, block_rows), device=device)
    expert_I = torch.searchsorted(last_E, tile_I, right=True)
    used_I, expert_I = expert_I < num_experts, expert_I.clamp(max=num_experts - 1)
    within_I = tile_I - (last_E - tiles_E).index_select(0, expert_I)
    row_I = start_E1.index_select(0, expert_I) + within_I * block_rows
    return Routes(row_R, row_of_TK, start_E1, torch.where(used_I, expert_I, -1), row_I)
