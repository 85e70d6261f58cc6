"""Whether a record that calls itself ranked kept within the bounds of ranking, as far as its plan and its rows show.

A window of training is judged where windows of the log fill it exactly: at the default `run.log_every_steps`, and at every
other that divides it.
"""

import math
from collections.abc import Iterator

from harness.plan.bounds import RANKING, looser_words
from harness.record.load import dominance
from harness.record.ranking import collapses, diverges, end_of_training
from harness.report.run_data import RunData


def against_rank(run: RunData) -> Iterator[str]:
    """One sentence for each reason; none for a run that says it is unranked."""
    if run.record.ranked:
        for reason in (*looser_words(run.plan), *unhealthy(run)):
            yield f"ranked is True, although {reason}"


def unhealthy(run: RunData) -> Iterator[str]:
    """What its loss and its router did beyond the bounds of ranking, whether or not it is ranked."""
    yield from _divergence(run)
    yield from _load(run)


def _divergence(run: RunData) -> Iterator[str]:
    size, best = RANKING.window_steps, math.inf
    for begin in range(0, len(run.steps) - size + 1, size):
        rows = run.steps[begin : begin + size]
        mean = sum(row["loss"] for row in rows) / size
        if diverges(RANKING, mean, best):
            yield f"step {rows[-1]['step']}: mean loss of {size} steps {mean:.3f}, best window before {best:.3f}"
        best = min(best, mean)


def _load(run: RunData) -> Iterator[str]:
    model, dead, share = run.plan["model"], 0, 0.0
    for step, counts_LE in _windows(run):
        yield from (f"step {step}, {what}" for what in collapses(RANKING, run.moe_layers, counts_LE, model["top_k"]))
        dead = sum(count_E.count(0) for count_E in counts_LE)
        share = max((dominance(count_E, model["top_k"]) for count_E in counts_LE), default=0.0)
    if (health := run.record.router_health) is not None:
        dead = max(dead, health.dead)
        share = max(share, health.max_load_percent / 100 * model["top_k"])
    yield from end_of_training(RANKING, model["num_experts"], model["top_k"], dead, share)


def _windows(run: RunData) -> Iterator[tuple[int, list[list[int]]]]:
    """(last step, counts by layer and expert) of each window of ranking that windows of the log fill, in order."""
    size, begun, last = RANKING.window_steps, 0, 0
    total: list[list[int]] = []
    for row in run.windows:
        total = [[a + b for a, b in zip(x, y)] for x, y in zip(total, row["counts"])] if total else row["counts"]
        if row["step"] // size > last // size:
            if row["step"] % size == 0 and row["step"] - begun == size:
                yield row["step"], total
            total, begun = [], row["step"]
        last = row["step"]
