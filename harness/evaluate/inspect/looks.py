"""How much of its attention each head gives, at the token before an answer, to the earlier token that decides the answer."""

from typing import Any

import numpy as np

from harness.evaluate.inspect.intervals import by_instance, mean
from harness.evaluate.inspect.sample import Sample
from harness.evaluate.inspect.seen import Seen


def looks(sample: Sample, seen: Seen, among: int) -> list[dict[str, Any]]:
    """A row a head of each layer whose attention has weights to read. `chance`: what one gets that gives every token it sees
    the same. None of a task whose answers no single token decides."""
    asking, instances = sample.before_sourced, len(sample.token_BS)
    if not len(asking.row_N):
        return []
    count_B = np.bincount(asking.row_N, minlength=instances)
    chance = float((1.0 / (asking.place_N + 1)).mean())
    rows = []
    for layer, weight_AH in enumerate(seen.looked):
        if weight_AH is None:
            continue
        sum_BH = by_instance(asking.row_N, weight_AH, instances)
        found = mean(sum_BH, np.broadcast_to(count_B[:, None], sum_BH.shape), among)
        for head in range(weight_AH.shape[1]):
            one = found.at(head)
            rows.append({
                "task": sample.name, "layer": layer, "head": head, "answers": len(asking.row_N), "weight": one.value,
                "interval": [one.low, one.high], "chance": chance, "above": one.above(chance),
            })  # fmt: skip
    return rows
