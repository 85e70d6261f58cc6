"""One checkpoint: how far a choice was from another one, how many experts are used, who stands beside and behind whom, and what
a choice tells of its token.

Letters: B windows, N tokens, E experts, K top-k, C candidates, G groups of windows, P pairs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import NONE
from harness.evaluate.atlas.probe import Label
from harness.evaluate.inspect.intervals import Interval, by_instance, mean, quantile, share
from harness.evaluate.inspect.routes import GROUPS, told

QUANTILES = (0.01, 0.1, 0.5, 0.9)
MOST_CELLS = 1 << 18  # experts x ids: above, what is told is not split by ids, whose tables would not fit
PAIRS = 64  # of a layer, by counts, whose intervals are looked at
NAMED = 5  # of these that are kept


def span(found: Interval) -> list[float] | None:
    """As JSON has it; None of what was never counted."""
    return [*map(float, found)] if np.isfinite([*map(float, found)]).all() else None


def margins(score_NC: np.ndarray | None, row_N: np.ndarray, k: int, among: int) -> dict[str, Any] | None:
    """s_(K) - s_(K+1), by which the last expert chosen was ahead of the next one; None where there is none."""
    if score_NC is None or score_NC.shape[1] <= k:
        return None
    margin_N = (score_NC[:, k - 1] - score_NC[:, k]).astype(np.float64)
    windows = int(row_N.max()) + 1
    found = mean(by_instance(row_N, margin_N, windows), np.bincount(row_N, minlength=windows), among)
    return {"mean": span(found), "quantiles": np.quantile(margin_N, QUANTILES).tolist(), "ties": int((margin_N == 0).sum())}


def occupancy(expert_NK: np.ndarray, row_N: np.ndarray, experts: int, among: int) -> dict[str, Any]:
    """`effective`: N_eff = E / (1 + CV^2), of as many experts with equal loads; its interval is the jackknife's over groups of
    windows. `busiest`: the share of tokens that it is chosen for."""
    count_GE = _counts(expert_NK, row_N, experts)
    count_E = count_GE.sum(0)
    return {
        "effective": span(jackknife(count_GE, effective, among)), "unused": int((count_E == 0).sum()),
        "busiest": float(count_E.max() / len(expert_NK)),
    }  # fmt: skip


def effective(count_E: np.ndarray) -> float:
    """E / (1 + CV^2) = (sum n)^2 / sum n^2, the inverse of Simpson's index."""
    count_E = count_E.astype(np.float64)
    return float(count_E.sum() ** 2 / (count_E**2).sum())


def _counts(expert_NK: np.ndarray, row_N: np.ndarray, experts: int) -> np.ndarray:
    group_N = row_N % min(GROUPS, int(row_N.max()) + 1)
    cell_NK = group_N[:, None] * experts + expert_NK
    groups = int(group_N.max()) + 1
    return np.bincount(cell_NK.ravel(), minlength=groups * experts).reshape(groups, experts)


def jackknife(table_G: np.ndarray, figure: Callable[[np.ndarray], float], among: int) -> Interval:
    """A figure of a sum of tables, with the error of leaving each out (Quenouille 1956, Tukey 1958)."""
    whole, groups = table_G.sum(0), len(table_G)
    value, without_G = figure(whole), np.array([figure(whole - part) for part in table_G])
    reach = quantile(among) * ((groups - 1) / groups * ((without_G - without_G.mean()) ** 2).sum()) ** 0.5
    return Interval(value, value - reach, value + reach)


def beside(expert_NK: np.ndarray, row_N: np.ndarray, experts: int, among: int) -> list[dict[str, Any]]:
    """Pairs that stand in one set more often than in sets of two tokens half of the probe apart, those with the largest
    difference first: shares of tokens."""
    half = len(expert_NK) // 2
    other_NK = np.roll(expert_NK, half, 0)
    together = _table(expert_NK[:, :, None], expert_NK[:, None, :], experts)
    apart = _table(expert_NK[:, :, None], other_NK[:, None, :], experts)

    def both(e: int, f: int) -> tuple[np.ndarray, np.ndarray]:
        e_N, f_N = ((expert_NK == expert).any(1) for expert in (e, f))
        return (e_N & f_N).astype(float), ((e_N & np.roll(f_N, half)).astype(float) + (f_N & np.roll(e_N, half))) / 2

    return _pairs(np.triu(together - (apart + apart.T) / 2, 1), both, row_N, experts * (experts - 1) // 2 * among)


def behind(expert_NC: np.ndarray, row_N: np.ndarray, experts: int, k: int, among: int) -> list[dict[str, Any]]:
    """Who competes with whom: the last expert chosen and the next one, of pairs that stand so more often than they would with
    the next one of a token half of the probe away."""
    if expert_NC.shape[1] <= k:
        return []
    last_N, next_N = expert_NC[:, k - 1], expert_NC[:, k]
    away_N = np.roll(next_N, len(next_N) // 2)
    gain = _table(last_N, next_N, experts) - _table(last_N, away_N, experts)

    def both(e: int, f: int) -> tuple[np.ndarray, np.ndarray]:
        return ((last_N == e) & (next_N == f)).astype(float), ((last_N == e) & (away_N == f)).astype(float)

    return _pairs(gain, both, row_N, experts * (experts - 1) * among)


def _table(one: np.ndarray, other: np.ndarray, experts: int) -> np.ndarray:
    cell = np.broadcast_to(one * experts + other, np.broadcast_shapes(one.shape, other.shape)).ravel()
    return np.bincount(cell, minlength=experts * experts).reshape(experts, experts).astype(np.float64)


def _pairs(
    gain_EE: np.ndarray, both: Callable[[int, int], tuple[np.ndarray, np.ndarray]], row_N: np.ndarray, among: int
) -> list[dict[str, Any]]:
    windows = int(row_N.max()) + 1
    count_B, rows = np.bincount(row_N, minlength=windows), []
    for cell in np.argsort(-gain_EE, axis=None, kind="stable")[:PAIRS]:
        e, f = map(int, np.unravel_index(cell, gain_EE.shape))
        if gain_EE[e, f] <= 0:
            break
        one, control = (by_instance(row_N, x_N, windows) for x_N in both(e, f))
        found, beside = share(one, count_B, among), share(control, count_B, among)
        if found.above(beside):
            rows.append({"pair": [e, f], "share": span(found), "control": span(beside)})
    return rows[:NAMED]


def tells(
    expert_NK: np.ndarray, token_N: np.ndarray, row_N: np.ndarray, place_N: np.ndarray, labels: dict[str, Label], experts: int,
    key: tuple[str | int, ...], among: int, vocabulary: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """What a chosen expert tells of each label, in nats, and what of it beyond what the token's id tells, where ids are few."""
    shape = int(row_N.max()) + 1, int(place_N.max()) + 1

    def spread(x_N: np.ndarray, padding: int) -> np.ndarray:
        x = np.full((*shape, *x_N.shape[1:]), padding, np.int64)
        x[row_N, place_N] = x_N
        return x

    expert_BSK, token_BS, rows = spread(expert_NK, 0), spread(token_N, 0), []
    which = (False, True) if experts * vocabulary <= MOST_CELLS else (False,)
    for name, label in labels.items():
        label_BS = spread(label.label_N, NONE)
        for beyond in which:
            given = token_BS if beyond else None
            found = told(expert_BSK, label_BS, experts, Draws(0, "atlas", name, int(beyond), *key), len(which) * among, given)
            if found is not None:
                rows.append({"of": name, "beyond_ids": beyond} | found)
    return rows
