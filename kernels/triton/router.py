"""Which experts a token goes to, on a GPU: one kernel in place of a sort of 64-bit keys, two gathers and their scatters.

Letters: T tokens, E experts, K top-k; J is K + 1 (K where there is no other expert). Experts are found by the unique integer
keys of `harness.model.routing`, largest first, ties to the lower id, NaN above everything; so the ids are the same on every
device. The gradient is written densely, every place once: no scatter, no order of arrival.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import constexpr

ELEMENTS = 2048  # of (tokens, experts) that a program holds


def select(score_TE: Tensor, selection_TE: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """expert_TK int64, largest `selection_TE` first; chosen_TK, their `score_TE`; gap_T, by how much the last of them was
    chosen before the next (0 where there is none). Scores fp32."""
    (tokens, experts), found = score_TE.shape, min(top_k + 1, score_TE.shape[1])
    expert_TK = score_TE.new_empty(tokens, top_k, dtype=torch.int64)
    chosen_TK, gap_T = score_TE.new_empty(tokens, top_k), score_TE.new_empty(tokens)
    block_e = triton.next_power_of_2(experts)
    block_t = max(1, ELEMENTS // block_e)
    if tokens:
        select_kernel[(triton.cdiv(tokens, block_t),)](
            score_TE.contiguous(), selection_TE.contiguous(), expert_TK, chosen_TK, gap_T, tokens,
            E=experts, K=top_k, J=found, BLOCK_T=block_t, BLOCK_E=block_e,
        )  # fmt: skip
    return expert_TK, chosen_TK, gap_T


def select_backward(dchosen_TK: Tensor, expert_TK: Tensor, experts: int) -> Tensor:
    """dscore_TE: at each chosen expert its gradient, else 0."""
    tokens, top_k = expert_TK.shape
    dscore_TE = dchosen_TK.new_empty(tokens, experts)
    block_e = triton.next_power_of_2(experts)
    block_t = max(1, ELEMENTS // block_e)
    if tokens:
        select_backward_kernel[(triton.cdiv(tokens, block_t),)](
            dchosen_TK.contiguous(), expert_TK, dscore_TE, tokens, E=experts, K=top_k, BLOCK_T=block_t, BLOCK_E=block_e
        )
    return dscore_TE


@triton.jit
def select_kernel(
    score_TE, selection_TE, expert_TK, chosen_TK, gap_T, T,
    E: constexpr, K: constexpr, J: constexpr, BLOCK_T: constexpr, BLOCK_E: constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    e = tl.arange(0, BLOCK_E)
    live_TE = (t < T)[:, None] & (e < E)[None, :]
    score = tl.load(score_TE + t[:, None] * E + e[None, :], mask=live_TE, other=0.0)
    selection = tl.load(selection_TE + t[:, None] * E + e[None, :], mask=live_TE, other=0.0)
    bits = tl.where(selection == 0.0, 0.0, selection).to(tl.int32, bitcast=True)  # -0.0 and 0.0 tie
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    ordered = tl.where(selection != selection, 0x7FFFFFFF, ordered).to(tl.int64)
    key = tl.where(live_TE, ordered * E + (E - 1 - e)[None, :], -(1 << 62))
    last = tl.zeros((BLOCK_T,), tl.float32)
    gap = tl.zeros((BLOCK_T,), tl.float32)
    for j in tl.static_range(J):
        best = tl.max(key, axis=1)
        found = key == best[:, None]
        value = tl.sum(tl.where(found, selection, 0.0), axis=1)
        if j < K:
            number = tl.sum(tl.where(found, e[None, :], 0), axis=1).to(tl.int64)
            tl.store(expert_TK + t * K + j, number, mask=t < T)
            tl.store(chosen_TK + t * K + j, tl.sum(tl.where(found, score, 0.0), axis=1), mask=t < T)
            last = value
        else:
            gap = last - value
        key = tl.where(found, -(1 << 62), key)
    tl.store(gap_T + t, gap, mask=t < T)


@triton.jit
def select_backward_kernel(
    dchosen_TK, expert_TK, dscore_TE, T, E: constexpr, K: constexpr, BLOCK_T: constexpr, BLOCK_E: constexpr
):
    t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    e = tl.arange(0, BLOCK_E)
    out = tl.zeros((BLOCK_T, BLOCK_E), tl.float32)
    for k in tl.static_range(K):
        number = tl.load(expert_TK + t * K + k, mask=t < T, other=-1)
        gradient = tl.load(dchosen_TK + t * K + k, mask=t < T, other=0.0)
        out = tl.where(e[None, :] == number[:, None], gradient[:, None], out)
    tl.store(dscore_TE + t[:, None] * E + e[None, :], out, mask=(t < T)[:, None] & (e < E)[None, :])
