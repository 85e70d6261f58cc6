"""Routing metadata on the device: rows sorted by expert, and the tiles that a grid of fixed size works on.

Letters: T tokens, K top-k, E experts, R = T*K rows, I tiles. All shapes follow from T, K, E and the block, so nothing is
read on the host between router and combine; tiles that no expert needed carry expert -1 and return at once.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import constexpr

PLACES = 1024  # that a program of `invert_kernel` writes
NARROW = 1 << 15  # experts from which on ids need more than 16 bits


@dataclass
class Order:
    """What the forward finds and the backward needs again: row_R, row_of_TK and start_E1 of `Routes`, without tiles."""

    row_R: Tensor
    row_of_TK: Tensor
    start_E1: Tensor

    @staticmethod
    def shapes(tokens: int, top_k: int, experts: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of the three, all int64."""
        return (tokens * top_k,), (tokens, top_k), (experts + 1,)


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


def order(expert_TK: Tensor, num_experts: int) -> Order:
    """Stable: rows of one expert keep the order of their tokens. Ids outside [-1, num_experts) are the caller's to refuse."""
    ids_R = expert_TK.reshape(-1)
    if num_experts < NARROW:
        ids_R = ids_R.to(torch.int16)  # a radix sort passes over every byte of its keys
    expert_R, row_R = torch.sort(ids_R, stable=True)
    start_E1 = torch.searchsorted(expert_R, torch.arange(num_experts + 1, dtype=ids_R.dtype, device=ids_R.device))
    row_of_TK = torch.empty(expert_TK.shape, dtype=torch.int64, device=ids_R.device)
    if rows := ids_R.numel():
        invert_kernel[(triton.cdiv(rows, PLACES),)](row_R, row_of_TK, rows, BLOCK=PLACES)
    return Order(row_R, row_of_TK, start_E1)


@triton.jit
def invert_kernel(row_R, row_of_R, rows, BLOCK: constexpr):
    """row_of[row[i]] = i of a permutation: every place is written once. torch's scatter sorts again where it must repeat."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = i < rows
    tl.store(row_of_R + tl.load(row_R + i, mask=live, other=0), i, mask=live)


def routes(found: Order, block_rows: int) -> Routes:
    """In tiles of `block_rows` rows."""
    start_E1, rows, num_experts = found.start_E1, found.row_R.numel(), found.start_E1.numel() - 1
    tiles_E = (start_E1.diff() + (block_rows - 1)) // block_rows
    last_E = tiles_E.cumsum(0)
    tile_I = torch.arange(tile_bound(rows, num_experts, block_rows), device=start_E1.device)
    expert_I = torch.searchsorted(last_E, tile_I, right=True)
    used_I, expert_I = expert_I < num_experts, expert_I.clamp(max=num_experts - 1)
    within_I = tile_I - (last_E - tiles_E).index_select(0, expert_I)
    row_I = start_E1.index_select(0, expert_I) + within_I * block_rows
    return Routes(found.row_R, found.row_of_TK, start_E1, torch.where(used_I, expert_I, -1), row_I)
