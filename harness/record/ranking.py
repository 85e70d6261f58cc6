"""Whether a window of training kept within bounds: the one rule that stops a run, unranks it, and checks a record's word.

Letters: L MoE layers, E experts, K top-k. Counts are rows of each expert, summed over a window of `bounds.window_steps` steps.
"""

from collections.abc import Iterator, Sequence

from harness.plan.schema import Health
from harness.record.load import dominance


def diverges(bounds: Health, mean: float, best: float) -> bool:
    """Whether a window's mean loss left its course; `best` is the lowest of the windows before it (infinity for the first)."""
    return mean > bounds.divergence_factor * best


def collapses(bounds: Health, layers: Sequence[int], counts_LE: Sequence[Sequence[int]], top_k: int) -> Iterator[str]:
    """A sentence for each layer whose load is beyond the bounds. `layers`: their numbers."""
    for layer, count_E in zip(layers, counts_LE):
        dead = count_E.count(0)
        if dead > bounds.dead_share * len(count_E):
            yield f"layer {layer}: {dead} of {len(count_E)} experts dead in a window"
        elif dominates(bounds, len(count_E), dominance(count_E, top_k), top_k):
            share = dominance(count_E, top_k)
            yield f"layer {layer}: expert {count_E.index(max(count_E))} is in {share:.0%} of all top-{top_k} sets"


def dominates(bounds: Health, experts: int, share: float, top_k: int) -> bool:
    """Whether an expert in this `share` of all top-k sets is dominant: where every token goes to every expert none is."""
    return top_k < experts and share > bounds.collapse_load


def end_of_training(bounds: Health, experts: int, top_k: int, dead: int, share: float) -> list[str]:
    """What the state of the router at the end says against a rank: `dead` experts and the largest `share` of all top-k sets,
    over the last window of training or over val."""
    reasons = [f"{dead} dead experts"] if dead else []
    if dominates(bounds, experts, share, top_k):
        reasons.append(f"an expert in {share:.0%} of all top-k sets")
    return reasons
