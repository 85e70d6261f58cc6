"""Two checkpoints of one run: how much of the chosen sets moved, and through what.

A set depends on three things: the router's weights, what it is given, and its biases. Each channel takes one of them from the
later checkpoint, and all else from the earlier one: what it alone would have moved. `all` is what did move, the scores ranked
again; channels do not add up to it where one undoes what another did.

Letters: B windows, N tokens, E experts, K top-k.
"""

from typing import Any

import numpy as np
from torch import Tensor

from harness.evaluate.atlas.seen import Layer
from harness.evaluate.atlas.settled import span
from harness.evaluate.inspect.intervals import Interval, by_instance, mean

LOW = 0.1  # share of tokens with the smallest margins


def kept(one_NK: np.ndarray, other_NK: np.ndarray) -> np.ndarray:
    """float64 (N,): how many experts two sets have in common."""
    return (one_NK[:, :, None] == other_NK[:, None, :]).any(2).sum(1).astype(np.float64)


def jaccard(one_NK: np.ndarray, other_NK: np.ndarray) -> np.ndarray:
    """(N,): experts of both sets, of those of either."""
    common_N = kept(one_NK, other_NK)
    return common_N / (2 * one_NK.shape[1] - common_N)


def turnover(before_NK: np.ndarray, after_NK: np.ndarray, row_N: np.ndarray, among: int) -> dict[str, Any]:
    """`jaccard` of a token's sets, and as `control` of its set before with that after of a token half of the probe away."""
    away_NK = np.roll(after_NK, len(after_NK) // 2, 0)
    return {
        "jaccard": span(over(jaccard(before_NK, after_NK), row_N, among)),
        "control": span(over(jaccard(before_NK, away_NK), row_N, among)),
    }


def over(x_N: np.ndarray, row_N: np.ndarray, among: int, counted_N: np.ndarray | None = None) -> Interval:
    """Its mean over tokens (over `counted_N` of each), with an interval over windows."""
    windows = int(row_N.max()) + 1
    count_N = np.ones(len(x_N)) if counted_N is None else counted_N
    return mean(by_instance(row_N, x_N, windows), by_instance(row_N, count_N, windows), among)


def channels(before: Layer, after: Layer, token_N: Tensor, row_N: np.ndarray, among: int) -> dict[str, Any] | None:
    """Shares of chosen experts that are others afterwards; None of a router without weights, whose sets never move."""
    if before.score_NC is None:
        return None
    was_NK = before.chosen_by(before.x_ND, token_N, {})
    now_NK = after.chosen_by(after.x_ND, token_N, {})
    found = {
        "router": before.chosen_by(before.x_ND, token_N, after.weights),
        "inputs": before.chosen_by(after.x_ND, token_N, {}),
        "biases": before.chosen_by(before.x_ND, token_N, after.biases) if before.biases else None,
        "all": now_NK,
    }
    k = was_NK.shape[1]
    return {
        name: None if each is None else span(over(1 - kept(was_NK.numpy(), each.numpy()) / k, row_N, among))
        for name, each in found.items()
    }


def at_the_boundary(before: Layer, after: Layer, row_N: np.ndarray, k: int, experts: int, among: int) -> dict[str, Any] | None:
    """Whether what moved was near another choice: of the experts that left, the share from tokens with the smallest tenth of
    margins (a tenth by chance); of those that came, the share that had been the next one (1 of E - K by chance). None of a
    router without a next one."""
    if before.score_NC is None or before.score_NC.shape[1] <= k:
        return None
    was_NC, now_NK = before.expert_NC.numpy(), after.expert_NC[:, :k].numpy()
    margin_N = (before.score_NC[:, k - 1] - before.score_NC[:, k]).numpy()
    rank_N = np.argsort(np.argsort(margin_N, kind="stable"), kind="stable")
    moved_N = k - kept(was_NC[:, :k], now_NK)
    next_N = (now_NK == was_NC[:, k:]).any(1).astype(np.float64)
    return {
        "near": span(over(moved_N * (rank_N < LOW * len(rank_N)), row_N, among, moved_N)), "near_by_chance": LOW,
        "next": span(over(next_N, row_N, among, moved_N)), "next_by_chance": 1 / (experts - k),
    }  # fmt: skip
