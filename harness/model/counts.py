"""Parameters and FLOPs, counted from the built modules (on any device, the meta device too).

FLOPs per token of a training step: 6 per active matrix parameter (2 forward, 4 backward), plus causal attention:
12 * layers * width * S / 2. Embedding look-ups and elementwise work are not counted.
"""

from dataclasses import dataclass

from harness.model.feedforward import Experts
from harness.model.transformer import Transformer


@dataclass(frozen=True)
class Counts:
    params_total: int
    params_active: int  # what one token touches; of routed experts, top-k of E
    flops_per_token: int  # forward and backward


def count(model: Transformer) -> Counts:
    shape = model.shape
    total = sum(p.numel() for p in model.parameters())
    idle = 0
    for module in model.modules():
        if isinstance(module, Experts):
            routed = module.up.numel() + module.down.numel()
            idle += routed - routed * shape.top_k // shape.num_experts
    active = total - idle
    matrices = active - model.embedding.numel() - sum(p.numel() for n, p in model.named_parameters() if "norm" in n)
    attention = 6 * shape.layers * shape.width * shape.sequence_length
    return Counts(total, active, 6 * matrices + attention)
