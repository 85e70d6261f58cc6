"""Router health from counts: how evenly, how narrowly, and whether an expert is dead or dominant.

Letters: L MoE layers, E experts, K top-k. Counts are whole-step or whole-validation sums over the global batch. A dead
expert got no row; `max_load_percent` is the busiest expert's share of all rows, 100/K when it is in every top-k.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def layer_health(count_E: Tensor, top_k: int) -> dict[str, float | int]:
    """Health of one layer from int64 counts; entropy in nats and as a share of ln E, loads in percent of all rows."""
    load = count_E.double()
    total, experts = float(load.sum()), load.numel()
    assert total > 0, "health of a layer that routed nothing"
    share = load / total
    entropy = float(-(share * share.clamp_min(1e-300).log()).sum())
    return {
        "entropy": entropy,
        "entropy_ratio": entropy / math.log(experts) if experts > 1 else 1.0,
        "effective_experts": math.exp(entropy),
        "cv_percent": float(100 * load.std(unbiased=False) / load.mean()),
        "max_load_percent": float(100 * share.max()),
        "dominance": float(share.max() * top_k),  # 1 when one expert is in every token's top-k
        "active": int((count_E > 0).sum()),
        "dead": int((count_E == 0).sum()),
        "balance": float(load.min() / load.max()),
    }


def router_health(
    count_LE: Tensor, margin_L: Tensor, bias_range_L: list[float], layers: list[int], top_k: int,
    dropped_L: Sequence[float] = (),
) -> dict[str, Any] | None:  # fmt: skip
    """The record's `router_health`: every MoE layer and the worst of them; None for a dense model. `dropped_L`: under a
    capacity, the share of rows beyond it in training (scoring drops none)."""
    if not layers:
        return None
    rows = [
        {"layer": layer, **layer_health(count_E, top_k), "margin": float(margin), "bias_range": bias_range}
        for layer, count_E, margin, bias_range in zip(layers, count_LE, margin_L, bias_range_L)
    ]
    for row, dropped in zip(rows, dropped_L):
        row["dropped"] = dropped
    return {
        "layers": rows,
        "worst_entropy_ratio": min(row["entropy_ratio"] for row in rows),
        "dead": sum(row["dead"] for row in rows),
        "max_load_percent": max(row["max_load_percent"] for row in rows),
        "dominance": max(row["dominance"] for row in rows),
    }


def bias_ranges(model: torch.nn.Module) -> list[float]:
    """max - min of the selection bias, per MoE layer; 0 for routers without one."""
    routers = [m for name, m in model.named_modules() if name.endswith("router")]
    return [float(m.bias.max() - m.bias.min()) if hasattr(m, "bias") else 0.0 for m in routers]
