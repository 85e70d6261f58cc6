"""Which experts are chosen for which tokens: mutual information of an expert chosen and a label of the token, in nats.

The control is the same with the labels of another instance in their place, shuffled as wholes and in their order: it has the
bias that counting few tokens has (Miller 1955), what tokens of one instance have in common, and what the place alone tells. The
error of the figure is the jackknife's over groups of instances.

Letters: B instances, S tokens, G groups of instances, E experts, K top-k, Z labels.
"""

from typing import Any

import numpy as np
from scipy.special import entr

from harness.data.draws import Draws
from harness.data.instances import NONE
from harness.evaluate.inspect.intervals import Interval, quantile, share

GROUPS, SWAPS = 16, 20
MOST_CHOICES = 3  # of a layer, that are named


def tables(expert_BSK: np.ndarray, label_BS: np.ndarray, experts: int, labels: int, group_B: np.ndarray) -> np.ndarray:
    """int64 (G, E, Z): how often an expert was chosen for a token with a label, by the group of its instance. Tokens without a
    label (NONE) do not count."""
    row_N, place_N = np.nonzero(label_BS != NONE)
    cell_NK = (group_B[row_N, None] * experts + expert_BSK[row_N, place_N]) * labels + label_BS[row_N, place_N][:, None]
    groups = int(group_B.max()) + 1
    return np.bincount(cell_NK.ravel(), minlength=groups * experts * labels).reshape(groups, experts, labels)


def information(table_EZ: np.ndarray) -> np.ndarray:
    """(...): mutual information of each table (..., E, Z) of counts, as it was counted."""
    p = table_EZ / table_EZ.sum((-2, -1), keepdims=True)
    return entr(p.sum(-1)).sum(-1) + entr(p.sum(-2)).sum(-1) - entr(p).sum((-2, -1))


def of_others(label_BS: np.ndarray, draws: Draws) -> np.ndarray:
    """Each instance's labels replaced by those of one of the instances that have any, in their order; where that one has
    fewer, they begin again. As many tokens have labels as before."""
    other_BS, having = label_BS.copy(), np.flatnonzero((label_BS != NONE).any(1))
    for row, other in zip(having, having[draws.some(len(having), len(having))]):
        place_N, label_N = np.flatnonzero(label_BS[row] != NONE), label_BS[other][label_BS[other] != NONE]
        other_BS[row, place_N] = np.resize(label_N, len(place_N))
    return other_BS


def told(expert_BSK: np.ndarray, label_BS: np.ndarray, experts: int, draws: Draws, among: int) -> dict[str, Any] | None:
    """A figure, its control, both with intervals; None where no two labels, or no two groups of instances, are there."""
    seen = np.unique(label_BS[label_BS != NONE])
    if len(seen) < 2:
        return None
    label_BS = np.where(label_BS == NONE, NONE, np.searchsorted(seen, label_BS))
    instances = len(label_BS)
    group_B = np.arange(instances) * min(GROUPS, instances) // instances
    table_GEZ = tables(expert_BSK, label_BS, experts, len(seen), group_B)
    table_GEZ = table_GEZ[table_GEZ.any((1, 2))]
    groups = len(table_GEZ)
    if groups < 2:
        return None
    whole_EZ = table_GEZ.sum(0)
    without_G, value, reach = information(whole_EZ - table_GEZ), float(information(whole_EZ)), quantile(among)
    error = ((groups - 1) / groups * ((without_G - without_G.mean()) ** 2).sum()) ** 0.5
    none_B = np.zeros(instances, np.int64)
    swapped = []
    for _ in range(SWAPS):
        table_EZ = tables(expert_BSK, of_others(label_BS, draws), experts, len(seen), none_B)[0]
        swapped.append(float(information(table_EZ)))
    control, spread = float(np.mean(swapped)), float(np.std(swapped, ddof=1))
    found = Interval(value, value - reach * error, value + reach * error)
    beside = Interval(control, control - reach * spread, control + reach * spread)
    return {
        "labels": len(seen), "information": value, "interval": [found.low, found.high], "control": [*beside],
        "beyond": value - control, "most": float(entr(whole_EZ.sum(0) / whole_EZ.sum()).sum()), "above": found.above(beside),
    }  # fmt: skip


def choices(expert_BSK: np.ndarray, label_BS: np.ndarray, experts: int, states: int, among: int) -> list[dict[str, Any]]:
    """The experts that are chosen for tokens of a state more than for those of the others, the most of them first, at most
    MOST_CHOICES: shares of tokens for which the expert is among those chosen. Every pair of both is among what was tried."""
    row_N, place_N = np.nonzero(label_BS != NONE)
    label_N, instances = label_BS[row_N, place_N], len(label_BS)
    cell_NK = (row_N * states + label_N)[:, None] * experts + expert_BSK[row_N, place_N]
    chosen_BZE = np.bincount(cell_NK.ravel(), minlength=instances * states * experts).reshape(instances, states, experts)
    token_BZ1 = np.bincount(row_N * states + label_N, minlength=instances * states).reshape(instances, states, 1)
    among = among * states * experts
    of_state = share(chosen_BZE, np.broadcast_to(token_BZ1, chosen_BZE.shape), among)
    rest_BZE, rest_BZ1 = chosen_BZE.sum(1, keepdims=True) - chosen_BZE, token_BZ1.sum(1, keepdims=True) - token_BZ1
    of_others = share(rest_BZE, np.broadcast_to(rest_BZ1, rest_BZE.shape), among)
    gain_ZE = np.where(of_state.low > of_others.high, of_state.value - of_others.value, -np.inf)
    found = []
    for cell in np.argsort(-gain_ZE, axis=None, kind="stable")[:MOST_CHOICES]:
        state, expert = divmod(int(cell), experts)
        if gain_ZE[state, expert] > 0:
            found.append({
                "expert": expert, "state": state, "share": [*of_state.at(state, expert)],
                "others": [*of_others.at(state, expert)],
            })  # fmt: skip
    return found
