"""Auxiliary-loss-free balancing (arXiv 2408.15664): a bias that steers the selection and nothing else.

Once per optimizer step, from the counts of the whole global batch: bias += rate * (s - mean(s)), s = sign(mean load - load).
Subtracting the mean keeps the biases' sum where it was, so they cannot drift together.
"""

import math

import torch
from torch import Tensor

from harness.model.feedforward import Experts
from harness.model.transformer import Transformer
from harness.plan.schema import Plan


def bias_rate(plan: Plan, progress: float) -> float:
    """The rate of the step whose middle is at `progress` (0 to 1) of the budget. constant: as planned; cosine: falls from it
    to 0; warmup: rises linearly to it over `schedule.warmup_share`, then stays."""
    rate = plan.balance.rate
    if plan.balance.schedule == "cosine":
        return rate * (1 + math.cos(math.pi * progress)) / 2
    if plan.balance.schedule == "warmup":
        return rate * min(1.0, progress / plan.schedule.warmup_share)
    return rate


@torch.no_grad()
def update_biases(model: Transformer, count_LE: Tensor, rate: float) -> None:
    """`count_LE`: int64 rows per expert of the whole step, one row per MoE layer, summed over ranks and micro-batches."""
    routers = [m.router for m in model.modules() if isinstance(m, Experts) and hasattr(m.router, "bias")]
    assert len(routers) in (0, count_LE.shape[0])
    for router, count_E in zip(routers, count_LE):
        load = count_E.double()
        sign = torch.sign(load.mean() - load).float()
        router.bias.add_(sign - sign.mean(), alpha=rate)
