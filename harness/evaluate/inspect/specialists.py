"""Which experts are for which task, over the tokens of all samples together.

What a layer's experts tell of one task is how far the experts that its tokens get differ from those that all tokens get
(`harness/surprise.py`). Control and error are those of `routes.py`: tasks of other instances, and groups of instances left out.

Letters: B instances, S tokens, G groups of instances, R shuffles, E experts, K top-k, Z tasks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.data.draws import Draws
from harness.evaluate.inspect.intervals import Interval, quantile
from harness.evaluate.inspect.routes import GROUPS, SWAPS, compared, of_others, tables
from harness.surprise import surprise


def told_of_each(
    expert_BSK: np.ndarray, task_BS: np.ndarray, experts: int, names: Sequence[str], draws: Draws, among: int
) -> list[dict[str, Any]]:
    """A row a task: how often each expert was chosen for its tokens, and what that tells of it, in nats. Two instances of each
    task or more, and as many of one as of another; those of one task stand together."""
    instances = len(task_BS)
    group_B = np.arange(instances) % min(GROUPS, instances // len(names))  # each has some of every task
    table_GEZ = tables(expert_BSK, task_BS, experts, len(names), group_B)
    whole_EZ, groups = table_GEZ.sum(0), len(table_GEZ)
    value_Z, without_GZ = surprise(whole_EZ), surprise(whole_EZ - table_GEZ)
    error_Z = ((groups - 1) / groups * ((without_GZ - without_GZ.mean(0)) ** 2).sum(0)) ** 0.5
    none_B = np.zeros(instances, np.int64)
    swapped_RZ = np.array([
        surprise(tables(expert_BSK, of_others(task_BS, draws), experts, len(names), none_B)[0]) for _ in range(SWAPS)
    ])  # fmt: skip
    control_Z, reach = swapped_RZ.mean(0), quantile(among)
    spread_Z = reach * swapped_RZ.std(0, ddof=1)
    found = Interval(value_Z, value_Z - reach * error_Z, value_Z + reach * error_Z)
    beside = Interval(control_Z, control_Z - spread_Z, control_Z + spread_Z)
    rows = []
    for place, name in enumerate(names):
        one, control = found.at(place), beside.at(place)
        rows.append({
            "task": name, "chosen": whole_EZ[:, place].tolist(), "information": one.value, "interval": [one.low, one.high],
            "control": [*control], "beyond": one.value - control.value, "above": one.above(control),
        })  # fmt: skip
    return rows


def specialists(
    expert_BSK: np.ndarray, task_BS: np.ndarray, experts: int, names: Sequence[str], among: int
) -> list[dict[str, Any]]:
    """A row an expert: the task for whose tokens it is chosen more than for those of the other tasks, shares of tokens for
    which it is among those chosen. Of several tasks the one of the largest difference, those that are `above` before others;
    `among`: layers."""
    of_task, of_rest = compared(expert_BSK, task_BS, experts, len(names), among)
    above_ZE, gain_ZE = of_task.low > of_rest.high, of_task.value - of_rest.value
    best_E = np.where(above_ZE, gain_ZE, gain_ZE - 2).argmax(0)  # a gain is 1 at most
    return [
        {"expert": expert, "task": names[task], "share": [*of_task.at(task, expert)], "others": [*of_rest.at(task, expert)],
         "above": bool(above_ZE[task, expert])}
        for expert, task in enumerate(best_E.tolist())
    ]  # fmt: skip
