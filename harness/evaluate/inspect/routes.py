"""Which experts are chosen for which tokens: mutual information of an expert chosen and a label of the token, in nats.

The control is the same with the labels of another instance in their place, shuffled as wholes and in their order: it has the
bias that counting few tokens has (Miller 1955), what tokens of one instance have in common, and what the place alone tells. The
error of the figure is the jackknife's over groups of instances.

Letters: B instances, S tokens, G groups of instances, E experts, K top-k, Z labels, V values of what is given.
"""

from typing import Any

import numpy as np
from scipy.special import entr

from harness.data.draws import Draws
from harness.data.instances import NONE
from harness.evaluate.inspect.intervals import Interval, quantile, share

GROUPS, SWAPS = 16, 20
MOST_CHOICES = 3  # of a layer, that are named
DIGITS = 12  # a difference of two figures below this is rounding


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


def conditional(table_EZV: np.ndarray) -> np.ndarray:
    """(...): what the first of (..., E, Z, V) tells of the second beyond what the third tells of it, I(E; Z | V)."""
    both = information(table_EZV.reshape(*table_EZV.shape[:-2], -1))
    return (both - information(table_EZV.sum(-2))).round(DIGITS)


def of_others(label_BS: np.ndarray, draws: Draws) -> np.ndarray:
    """Each instance's labels replaced by those of one of the instances that have any, in their order; where that one has
    fewer, they begin again. As many tokens have labels as before."""
    other_BS, having = label_BS.copy(), np.flatnonzero((label_BS != NONE).any(1))
    for row, other in zip(having, having[draws.some(len(having), len(having))]):
        place_N, label_N = np.flatnonzero(label_BS[row] != NONE), label_BS[other][label_BS[other] != NONE]
        other_BS[row, place_N] = np.resize(label_N, len(place_N))
    return other_BS


def told(
    expert_BSK: np.ndarray, label_BS: np.ndarray, experts: int, draws: Draws, among: int, given_BS: np.ndarray | None = None
) -> dict[str, Any] | None:
    """A figure, its control, both with intervals; None where no two labels, or no two groups of instances, are there.
    `given_BS`: whole numbers of 0 or more; the figure is then what an expert tells of the label beyond what they tell."""
    seen = np.unique(label_BS[label_BS != NONE])
    if len(seen) < 2:
        return None
    label_BS = np.where(label_BS == NONE, NONE, np.searchsorted(seen, label_BS))
    given_BS = np.zeros_like(label_BS) if given_BS is None else given_BS
    instances, values = len(label_BS), int(given_BS.max()) + 1

    def counted(label_BS: np.ndarray, group_B: np.ndarray) -> np.ndarray:
        both_BS = np.where(label_BS == NONE, NONE, label_BS * values + given_BS)
        return tables(expert_BSK, both_BS, experts, len(seen) * values, group_B).reshape(-1, experts, len(seen), values)

    group_B = np.arange(instances) % min(GROUPS, instances)  # instances of one task stand together: each group has some
    table_GEZV = counted(label_BS, group_B)
    table_GEZV = table_GEZV[table_GEZV.any((1, 2, 3))]
    groups = len(table_GEZV)
    if groups < 2:
        return None
    whole_EZV = table_GEZV.sum(0)
    without_G, value, reach = conditional(whole_EZV - table_GEZV), float(conditional(whole_EZV)), quantile(among)
    error = ((groups - 1) / groups * ((without_G - without_G.mean()) ** 2).sum()) ** 0.5
    none_B = np.zeros(instances, np.int64)
    swapped = [float(conditional(counted(of_others(label_BS, draws), none_B)[0])) for _ in range(SWAPS)]
    control, spread = float(np.mean(swapped)), float(np.std(swapped, ddof=1))
    found = Interval(value, value - reach * error, value + reach * error)
    beside = Interval(control, control - reach * spread, control + reach * spread)
    p_ZV = whole_EZV.sum(0) / whole_EZV.sum()
    return {
        "labels": len(seen), "information": value, "interval": [found.low, found.high], "control": [*beside],
        "beyond": value - control, "most": float(entr(p_ZV).sum() - entr(p_ZV.sum(0)).sum()), "above": found.above(beside),
    }  # fmt: skip


def compared(expert_BSK: np.ndarray, label_BS: np.ndarray, experts: int, labels: int, among: int) -> tuple[Interval, Interval]:
    """(Z, E) both: the share of a label's tokens for which an expert is among those chosen, and that of the tokens of all other
    labels. Every pair of both is among what is tried."""
    row_N, place_N = np.nonzero(label_BS != NONE)
    label_N, instances = label_BS[row_N, place_N], len(label_BS)
    cell_NK = (row_N * labels + label_N)[:, None] * experts + expert_BSK[row_N, place_N]
    chosen_BZE = np.bincount(cell_NK.ravel(), minlength=instances * labels * experts).reshape(instances, labels, experts)
    token_BZ1 = np.bincount(row_N * labels + label_N, minlength=instances * labels).reshape(instances, labels, 1)
    among = among * labels * experts
    of_label = share(chosen_BZE, np.broadcast_to(token_BZ1, chosen_BZE.shape), among)
    rest_BZE, rest_BZ1 = chosen_BZE.sum(1, keepdims=True) - chosen_BZE, token_BZ1.sum(1, keepdims=True) - token_BZ1
    return of_label, share(rest_BZE, np.broadcast_to(rest_BZ1, rest_BZE.shape), among)


def choices(expert_BSK: np.ndarray, label_BS: np.ndarray, experts: int, states: int, among: int) -> list[dict[str, Any]]:
    """The experts that are chosen for tokens of a state more than for those of the others, the most of them first, at most
    MOST_CHOICES: shares of tokens for which the expert is among those chosen."""
    of_state, of_rest = compared(expert_BSK, label_BS, experts, states, among)
    gain_ZE = np.where(of_state.low > of_rest.high, of_state.value - of_rest.value, -np.inf)
    found = []
    for cell in np.argsort(-gain_ZE, axis=None, kind="stable")[:MOST_CHOICES]:
        state, expert = divmod(int(cell), experts)
        if gain_ZE[state, expert] > 0:
            found.append({
                "expert": expert, "state": state, "share": [*of_state.at(state, expert)],
                "others": [*of_rest.at(state, expert)],
            })  # fmt: skip
    return found
