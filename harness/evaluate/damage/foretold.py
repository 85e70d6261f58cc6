"""What might foretell damage, of a layer at two checkpoints or of experts of a layer: figures that are known before anything is
interfered with.

Letters: N tokens, E experts, K top-k.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.evaluate.atlas.drift import jaccard, kept
from harness.evaluate.atlas.seen import Layer
from harness.model.feedforward import Experts


class Earlier(NamedTuple):
    """A checkpoint. `distance`: |p' - p| / |p| of all parameters, p' being its own and p those of the last model."""

    step: int
    layers: Sequence[Layer]
    distance: float


@torch.no_grad()
def distance(earlier: nn.Module, last: nn.Module) -> float:
    """See `Earlier`."""
    there = dict(earlier.named_parameters())
    apart, whole = 0.0, 0.0
    for name, p in last.named_parameters():
        apart += float((there[name].double() - p.double()).square().sum())
        whole += float(p.double().square().sum())
    return (apart / whole) ** 0.5


def of_checkpoints(
    earlier: Earlier, was: Layer, now: Layer, token_N: Tensor, experts: int, steps: int
) -> dict[str, float]:  # fmt: skip
    """`sets`: 1 - Jaccard of what the two models choose. `router`: the share of chosen experts that the earlier router would
    exchange where the later one stands. `inputs`: |x' - x| / |x| of what the two are given. `load`: Jensen-Shannon divergence
    of the two loads, in nats. `evenness`: the difference of their coefficients of variation. `weights`: |W' - W| / |W| of the
    router's weights, and `model` of all parameters of the model. `steps`: how many lie between."""
    k = now.said_NK.shape[1]
    was_NK, now_NK = (layer.expert_NC[:, :k].numpy() for layer in (was, now))
    there_NK = now.chosen_by(now.x_ND, token_N, was.state).numpy()
    loads = [np.bincount(chosen_NK.ravel(), minlength=experts) for chosen_NK in (was_NK, now_NK)]
    weight, other = (torch.cat([w.flatten() for w in layer.weights.values()]) for layer in (now, was))
    return {
        "sets": float(1 - jaccard(was_NK, now_NK).mean()),
        "router": float(1 - kept(there_NK, now_NK).mean() / k),
        "inputs": float((was.x_ND - now.x_ND).norm() / now.x_ND.norm()),
        "load": jensen_shannon(*loads),
        "evenness": float(abs(np.subtract(*(load_E.std() / load_E.mean() for load_E in loads)))),
        "weights": float((other - weight).norm() / weight.norm()),
        "model": earlier.distance,
        "steps": float(steps),
    }


def of_experts(part: Experts, layer: Layer, some: Sequence[int]) -> dict[str, float]:
    """Shares of a layer that these experts have. `said`: of the length of what all experts add; `load`: of chosen experts;
    `weights`: of the squared length of all weights; `experts`: of their number."""
    chosen_NK, experts = layer.expert_NC[:, : layer.said_NK.shape[1]], part.num_experts
    load_E = torch.bincount(chosen_NK.flatten(), minlength=experts).double()
    said_E = torch.zeros(experts, dtype=torch.float64).index_add_(0, chosen_NK.flatten(), layer.said_NK.flatten().double())
    square_E = sum(w.detach().double().square().flatten(1).sum(1).cpu() for w in (part.up, part.down))
    found = {name: float(x_E[list(some)].sum() / x_E.sum()) for name, x_E in
             (("said", said_E), ("load", load_E), ("weights", square_E))}  # fmt: skip
    return found | {"experts": len(some) / experts}


def jensen_shannon(one_E: np.ndarray, other_E: np.ndarray) -> float:
    """Nats, between two counts; 0 where they are proportional, ln 2 where no expert is in both."""
    p, q = one_E / one_E.sum(), other_E / other_E.sum()
    middle = (p + q) / 2

    def against(x: np.ndarray) -> float:
        there = x > 0
        return float((x[there] * np.log(x[there] / middle[there])).sum())

    return (against(p) + against(q)) / 2
