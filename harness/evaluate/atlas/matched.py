"""Two receipts of one text: which experts of two runs are the same ones, and how much of their sets is shared beyond chance.

Experts have no numbers of their own: those of the other run are renamed by the assignment with the most tokens in common
(Kuhn 1955), made on half of the windows and asked of the other half, both ways, so that what was fitted is not what is counted.
Three controls go through the same assignment: the other run's sets of tokens half of the probe away, its sets of other tokens
with the same id, and the two untrained models. Where both runs began from the same weights, experts keep their numbers too.

Letters: B windows, N tokens, E experts, K top-k.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from harness.errors import UserError
from harness.evaluate.atlas.drift import kept, over
from harness.evaluate.atlas.settled import span


class Sets(NamedTuple):
    """A receipt's sets; `whose` names it in errors, `arrays` are as `receipt.py` lists them."""

    whose: str
    moe_layers: list[int]
    experts: int
    top_k: int
    steps: list[int]
    arrays: dict[str, np.ndarray]

    def of(self, step: int, layer: int) -> np.ndarray:
        """int64 (N, K)."""
        return self.arrays[f"{step:06d}/{layer}/expert"][:, : self.top_k].astype(np.int64)


def matched(one: Sets, other: Sets) -> dict[str, list[dict[str, Any]]]:
    """As JSON data. `rows`: of each step that both have and each MoE layer; `pairs`: of the ends, who is who.

    Raises:
        UserError: the runs differ in the number of their experts or in which layers hold them.
    """
    if (one.experts, one.top_k, one.moe_layers) != (other.experts, other.top_k, other.moe_layers):
        said = [f"{each.experts} experts, top-{each.top_k}, layers {each.moe_layers}" for each in (one, other)]
        raise UserError(f"{one.whose} is of {said[0]}, {other.whose} of {said[1]}", "name runs with the same experts")
    token_N, row_N = one.arrays["probe/token"], one.arrays["probe/window"].astype(np.int64)
    common = [(step, step) for step in one.steps[:-1] if step in other.steps[:-1]] + [(one.steps[-1], other.steps[-1])]
    rows, pairs = [], []
    for mine_step, their_step in common:
        for layer in one.moe_layers:
            sets = one.of(mine_step, layer), other.of(their_step, layer)
            found = shared(*sets, token_N, row_N, one.experts, 4 * len(common) * len(one.moe_layers))
            rows.append({"step": mine_step, "to": their_step, "layer": layer} | found)
            if mine_step == one.steps[-1]:
                pairs.append({"layer": layer, "pairs": who_is_who(*sets, one.experts)})
    return {"rows": rows, "pairs": pairs}


def shared(
    one_NK: np.ndarray, other_NK: np.ndarray, token_N: np.ndarray, row_N: np.ndarray, experts: int, among: int
) -> dict[str, Any]:
    """Shares of a set of one run that the other's has too: `matched` once experts are renamed, `numbered` as they are called,
    `windows` and `ids` the controls; `above`: whether `matched` is above both."""
    k = one_NK.shape[1]
    away_NK = np.roll(other_NK, len(other_NK) // 2, 0)
    alike_N, has_alike_N = another_of_its_id(token_N)

    def renamed(sets_NK: np.ndarray, wanted_N: np.ndarray) -> Any:
        share_N = np.zeros(len(row_N))
        for half in (0, 1):
            fitted_N = (row_N % 2 != half) & wanted_N
            name_E = assignment(one_NK[fitted_N], sets_NK[fitted_N], experts)
            asked_N = row_N % 2 == half
            share_N[asked_N] = kept(one_NK[asked_N], name_E[sets_NK[asked_N]]) / k
        return over(share_N * wanted_N, row_N, among, wanted_N.astype(np.float64))

    everywhere_N = np.ones(len(row_N), bool)
    found, windows = renamed(other_NK, everywhere_N), renamed(away_NK, everywhere_N)
    ids = renamed(other_NK[alike_N], has_alike_N)
    return {
        "matched": span(found), "numbered": span(over(kept(one_NK, other_NK) / k, row_N, among)), "windows": span(windows),
        "ids": span(ids), "above": found.above(windows) and found.above(ids),
    }  # fmt: skip


def assignment(one_NK: np.ndarray, other_NK: np.ndarray, experts: int) -> np.ndarray:
    """(E,): of each expert of the other run the one that takes most of its tokens, each once."""
    both_EE = _together(one_NK, other_NK, experts)
    mine_E, theirs_E = linear_sum_assignment(both_EE, maximize=True)
    name_E = np.zeros(experts, np.int64)
    name_E[theirs_E] = mine_E
    return name_E


def _together(one_NK: np.ndarray, other_NK: np.ndarray, experts: int) -> np.ndarray:
    cell = (one_NK[:, :, None] * experts + other_NK[:, None, :]).ravel()
    return np.bincount(cell, minlength=experts * experts).reshape(experts, experts)


def who_is_who(one_NK: np.ndarray, other_NK: np.ndarray, experts: int) -> list[list[float]]:
    """[expert, the other run's, Jaccard of the tokens that they take], best first, by an assignment over all windows."""
    name_E, both_EE = assignment(one_NK, other_NK, experts), _together(one_NK, other_NK, experts)
    mine_E, theirs_E = (np.bincount(sets.ravel(), minlength=experts) for sets in (one_NK, other_NK))
    found = []
    for theirs, mine in enumerate(name_E.tolist()):
        common = float(both_EE[mine, theirs])
        either = float(mine_E[mine] + theirs_E[theirs]) - common
        found.append([mine, theirs, common / either if either else 0.0])
    return sorted(found, key=lambda pair: (-pair[2], pair[0]))


def another_of_its_id(token_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index of another token with the same id, half of those that have it away; whether there is one), of each."""
    order = np.argsort(token_N, kind="stable")
    ids, first, count = np.unique(token_N[order], return_index=True, return_counts=True)
    found_N = np.arange(len(token_N))
    for begin, many in zip(first, count):
        if many > 1:
            of_id = order[begin : begin + many]
            found_N[of_id] = np.roll(of_id, many // 2)
    return found_N, np.isin(token_N, ids[count > 1])
