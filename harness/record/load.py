"""How evenly experts are loaded: every figure of router load, from counts alone, for training, records, tables and diagnoses.

Letters: N windows, L MoE layers, E experts, K top-k. Counts are rows of each expert, summed over whole steps of the global
batch or over all that was scored. A dead expert got no row; an expert in every top-k set has 1/K of the load.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.record.schema import LayerHealth, RouterHealth

LANES = 4, 4  # of the sum over experts: sixteen running sums


def dominance(count_E: Sequence[int], top_k: int) -> float:
    """The share of all top-k sets that the busiest expert is in: 1 when it is in every one."""
    return max(count_E) / sum(count_E) * top_k


@dataclass(frozen=True, eq=False)
class Load:
    """`counts`: (..., E), whole numbers. Each figure has the shape of what is before E."""

    counts: np.ndarray

    @classmethod
    def of(cls, counts: Sequence, experts: int = 0) -> "Load":
        """`counts`: nested lists; with `experts` those of no layer at all have a shape too."""
        made = np.array(counts, np.int64)
        return cls(made.reshape(-1, max(experts, 1)) if not made.size else made)

    @property
    def experts(self) -> int:
        return self.counts.shape[-1]

    @cached_property
    def share(self) -> np.ndarray:
        """(..., E): of all rows, zero where there are none."""
        return self.counts / np.maximum(self.counts.sum(-1, keepdims=True), 1)

    @property
    def relative(self) -> np.ndarray:
        """(..., E): rows over the even share; 1 is even, 0 is dead, E/K is an expert in every top-k set."""
        return self.counts * self.experts / np.maximum(self.counts.sum(-1, keepdims=True), 1)

    @property
    def busiest(self) -> np.ndarray:
        """The largest relative load."""
        return self.relative.max(-1)

    @cached_property
    def entropy(self) -> np.ndarray:
        """In nats; at most ln E, of an even load."""
        return -_sum(self.share * np.log(np.maximum(self.share, 1e-300)))

    @property
    def entropy_ratio(self) -> np.ndarray:
        """Entropy by ln E: 1 is even. A single expert is."""
        return self.entropy / math.log(self.experts) if self.experts > 1 else np.ones_like(self.entropy)

    @property
    def effective(self) -> np.ndarray:
        """N_eff = E / (1 + CV^2), CV as a fraction: so many experts with equal loads (the inverse of Simpson's index)."""
        return self.experts / (1 + (self.cv_percent / 100) ** 2)

    @property
    def cv_percent(self) -> np.ndarray:
        """100 x population standard deviation / mean; zero where there are no rows."""
        mean = self.counts.mean(-1)
        return 100 * self.counts.std(-1) / np.where(mean > 0, mean, 1)

    @property
    def max_load_percent(self) -> np.ndarray:
        """The busiest expert's share of all rows; 100/K of one in every top-k set."""
        return 100 * self.share.max(-1)

    @property
    def dead(self) -> np.ndarray:
        return (self.counts == 0).sum(-1)


def _sum(values: np.ndarray) -> np.ndarray:
    """The sum over the last axis, in one order whatever a machine's vectors hold: a record has the same figures everywhere."""
    size = math.prod(LANES)
    padded = np.zeros((*values.shape[:-1], -(-values.shape[-1] // size) * size))
    padded[..., : values.shape[-1]] = values
    total = padded.reshape(*values.shape[:-1], padded.shape[-1] // size, *LANES)
    for axis in (-3, -2, -1):
        total = np.add.accumulate(total, axis).take([-1], axis)
    return total[..., 0, 0, 0]


def router_health(
    counts_LE: np.ndarray, margin_L: Sequence[float], bias_range_L: Sequence[float], layers: Sequence[int], top_k: int,
    dropped_L: Sequence[float] = (),
) -> RouterHealth | None:  # fmt: skip
    """The record's `router_health`: every MoE layer and the worst of them; None for a dense model. `layers`: their numbers;
    `dropped_L`: under a capacity, the share of rows beyond it in training (scoring drops none)."""
    if not layers:
        return None
    rows = [
        _layer_health(layer, count_E, top_k, margin, bias_range, dropped_L[i : i + 1])
        for i, (layer, count_E, margin, bias_range) in enumerate(zip(layers, counts_LE, margin_L, bias_range_L))
    ]
    return RouterHealth(
        layers=rows,
        worst_entropy_ratio=min(row.entropy_ratio for row in rows),
        dead=sum(row.dead for row in rows),
        max_load_percent=max(row.max_load_percent for row in rows),
        dominance=max(row.dominance for row in rows),
    )


def _layer_health(
    layer: int, count_E: np.ndarray, top_k: int, margin: float, bias_range: float, dropped: Sequence[float]
) -> LayerHealth:
    load, entropy = Load(count_E), float(Load(count_E).entropy)
    assert count_E.any(), "health of a layer that routed nothing"
    return LayerHealth(
        layer=layer,
        entropy=entropy,
        entropy_ratio=float(load.entropy_ratio),
        effective_experts=math.exp(entropy),
        cv_percent=float(load.cv_percent),
        max_load_percent=float(load.max_load_percent),
        dominance=dominance(count_E.tolist(), top_k),
        active=load.experts - int(load.dead),
        dead=int(load.dead),
        balance=float(count_E.min() / count_E.max()),
        margin=float(margin),
        bias_range=bias_range,
        **({"dropped": dropped[0]} if dropped else {}),
    )
