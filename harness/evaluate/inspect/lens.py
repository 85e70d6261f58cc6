"""The stream at each depth through the model's own norm and head, as if the blocks above were not there (the logit lens,
nostalgebraist 2020)."""

from typing import Any

import numpy as np

from harness.evaluate.inspect.intervals import by_instance, mean
from harness.evaluate.inspect.sample import Sample
from harness.evaluate.inspect.seen import Seen


def lens(sample: Sample, seen: Seen, among: int) -> list[dict[str, Any]]:
    """A row a depth: mean nats of the true answers with its interval, and their median rank among all tokens. None of a sample
    without answers."""
    if not len(seen.nats_DA[0]):
        return []
    row_A, instances = sample.before_answers.row_N, len(sample.token_BS)
    count_B = np.bincount(row_A, minlength=instances)
    rows = []
    for depth, (nats_A, rank_A) in enumerate(zip(seen.nats_DA, seen.rank_DA)):
        found = mean(by_instance(row_A, nats_A, instances), count_B, among).at()
        rows.append({
            "task": sample.name, "depth": depth, "answers": len(nats_A), "nats": found.value,
            "interval": [found.low, found.high], "median_rank": float(np.median(rank_A)),
        })  # fmt: skip
    return rows
