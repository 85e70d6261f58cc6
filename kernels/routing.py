"""Routing metadata: which rows each expert works on, as padded segments of one slot axis.

Letters: T tokens, K top-k, E experts, R = T*K rows, P padded slots. Each expert owns a contiguous segment of slots whose
length is its row count rounded up to `ROW_MULTIPLE`. Padding slots point at token 0 with routing weight 0, so they
contribute exact zeros to every sum without having to be cleared. A row of expert -1 is dropped: no expert owns it, and as its
slot it gets a padding slot, where it reads that exact zero.

Why pad: oneDNN builds a primitive for every new row count (rounding up took a trial step from 1.41 s to 0.55 s), and a
GEMM whose row count is a multiple of the micro-kernel's treats each row alike whatever else is in the batch. 16 is an AMX
tile's; at 96 rows an expert 32 computed 17% more rows than there are and 16 computes 8% more, with the same bits in bf16.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

ROW_MULTIPLE = 16


def slot_bound(rows: int, experts: int) -> int:
    """The most slots that `rows` rows on `experts` experts can need; depends on shapes only."""
    return rows + min(rows, experts) * (ROW_MULTIPLE - 1)


@dataclass
class Part:
    """Slots that are worked on at once: which of `of`, their `token_P`, and `bounds` counted from the first of them."""

    of: "Segments"
    slots: slice
    token_P: Tensor
    bounds: list[tuple[int, int, int]]

    @property
    def row_P(self) -> Tensor:
        return self.of.row_P[self.slots]

    def split(self, *tensors: Tensor) -> Iterator[tuple[int, *tuple[Tensor, ...]]]:
        """(expert, its rows of every tensor). No view of what is whole: eight an expert are felt where it has 32 rows."""
        for expert, start, end in self.bounds:
            yield expert, *(tensors if len(self.bounds) == 1 else (t[start:end] for t in tensors))

    def padding(self) -> Tensor:
        """int64: the slots that hold no row, counted from the first."""
        return torch.nonzero(self.row_P == self.of.slot_TK.numel()).view(-1)


@dataclass
class Segments:
    """token_P, row_P int64: the token and the row (t*K + k) in each slot, row R in padding slots; slot_TK int64: where each
    row went (a dropped one: a padding slot); bounds: (expert, first slot, end slot) of every expert that has rows."""

    token_P: Tensor
    row_P: Tensor
    slot_TK: Tensor
    bounds: list[tuple[int, int, int]]
    dropped: int  # rows

    def parts(self, apart: bool) -> Iterator[Part]:
        """Every expert's segment alone, or all of them as one."""
        if not apart:
            yield Part(self, slice(0, len(self.token_P)), self.token_P, self.bounds)
            return
        for expert, start, end in self.bounds:
            yield Part(self, slice(start, end), self.token_P[start:end], [(expert, 0, end - start)])


def check_ids(expert_TK: Tensor, num_experts: int) -> None:
    """Reads the ids on the host.

    Raises:
        ValueError: an expert id outside [0, num_experts) that is not -1 (dropped).
    """
    if expert_TK.numel() and not -1 <= int(expert_TK.min()) <= int(expert_TK.max()) < num_experts:
        found = f"{int(expert_TK.min())}..{int(expert_TK.max())}"
        raise ValueError(f"expert ids must lie in [0, {num_experts}), or be -1 for a dropped row; found {found}")


def check_weights(weight_TK: Tensor) -> None:
    """Reads the weights on the host.

    Raises:
        ValueError: a routing weight that is not finite; names the first.
    """
    bad = torch.nonzero(~torch.isfinite(weight_TK))
    if len(bad):
        token, slot = bad[0].tolist()
        raise ValueError(
            f"weight[{token}, {slot}] is {float(weight_TK[token, slot])} and {len(bad)} of {weight_TK.numel()} routing weights "
            "are not finite, but all must be"
        )


def segments(expert_TK: Tensor, num_experts: int) -> Segments:
    """Sorts the rows by expert; stable, so rows of one expert keep the order of their tokens. CPU: reads counts on the host.

    Raises:
        ValueError: an expert id outside [0, num_experts) that is not -1.
    """
    tokens, top_k = expert_TK.shape
    rows = tokens * top_k
    expert_R = expert_TK.reshape(-1)
    check_ids(expert_R, num_experts)
    sorted_R, row_R = torch.sort(expert_R, stable=True)
    dropped = int(torch.searchsorted(sorted_R, 0))
    row_R = row_R[dropped:]
    count_E = torch.bincount(sorted_R[dropped:], minlength=num_experts)
    padded_E = (count_E + (ROW_MULTIPLE - 1)) // ROW_MULTIPLE * ROW_MULTIPLE
    if dropped and torch.equal(padded_E, count_E):  # no padding slot for dropped rows: the last segment gets some
        padded_E[int(count_E.nonzero()[-1]) if dropped < rows else 0] += ROW_MULTIPLE
    end_E = padded_E.cumsum(0)
    # a row's slot: its rank among the sorted rows, moved on by the padding of the experts before its own
    shift_E = (end_E - padded_E) - (count_E.cumsum(0) - count_E)
    slot_R = torch.arange(rows - dropped) + shift_E.repeat_interleave(count_E)
    ends = end_E.tolist()
    slots = ends[-1] if ends else 0
    row_P = torch.full((slots,), rows, dtype=torch.int64).index_copy_(0, slot_R, row_R)
    token_P = torch.zeros(slots, dtype=torch.int64).index_copy_(0, slot_R, row_R // top_k)
    nowhere = int((row_P == rows).nonzero()[0]) if dropped else 0
    slot_TK = torch.full((rows,), nowhere, dtype=torch.int64).index_copy_(0, row_R, slot_R).view(tokens, top_k)
    starts = [0, *ends[:-1]]
    bounds = [(e, s, t) for e, (s, t) in enumerate(zip(starts, ends)) if t > s]
    return Segments(token_P, row_P, slot_TK, bounds, dropped)
