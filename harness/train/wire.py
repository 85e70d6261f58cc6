"""What a step on several ranks takes beside memory: rows that an expert's rank receives, bytes that a rank sends, seconds.

With parallel.ep=1 every rank has all experts. With parallel.ep=P each of P ranks has E/P of them, and rows travel: in the
forward pass x out and y home, in the backward pass dy out and dx home, K of each for every token and MoE layer. Of balanced
routing 1/P stays where it is. Of gradients all travel with ep=1, and with ep=P those of what is no routed expert.

Letters: P ranks, U tokens of a micro-batch, n of these in a step, E experts, K top-k, D width.
"""

import math
from dataclasses import dataclass

from harness.model.counts import Counts
from harness.plan.schema import Plan
from harness.train.estimate import STREAMED, elsewhere, expected, expert_weights, step_parts
from harness.train.named_gpus import MESSAGES, NODE, Gpu

NUMBER = 2  # bytes of a row's number: bf16, in which y and dx are exact
WEIGHT = 4  # of a routing weight, which goes out with a row, and its gradient home
TILE = 128  # rows that the expert kernels take at a time (kernels/triton/configuration.py)
# Bytes of a weight and micro-batch that a rank with the experts moves beside rows: bf16 operands read forward and backward; its
# fp32 gradient written, then read and added to a sum that is read and written.
READ, FOLDED = 4, 16


@dataclass(frozen=True)
class Received:
    """Rows that a rank's experts get in a round and layer."""

    average: int
    worst: int


def received(plan: Plan) -> Received:
    """On average U*K. At worst every token of all P units chooses as many of one rank's experts as it may, up to what their
    capacity lets through."""
    m, ranks, tokens = plan.model, plan.parallel.ep, plan.parallel.micro_batch_tokens
    experts = m.num_experts // ranks
    worst = tokens * min(m.top_k, experts)
    if capacity := plan.expert_capacity(tokens):
        worst = min(worst, experts * capacity)
    return Received(tokens * m.top_k, ranks * worst)


@dataclass(frozen=True)
class Sent:
    """Bytes that a rank sends to others in a step. `direct`: to each of them alike; else around a ring."""

    size: float
    direct: bool = True

    def seconds(self, gpu: Gpu, ranks: int) -> float:
        """Over NVLink and over the network at once: whichever takes longer. Around rings, one for each GPU of a node."""
        if ranks == 1:
            return 0.0
        outside = max(0, ranks - NODE)
        if self.direct:
            over_links, over_network = (self.size * part / (ranks - 1) for part in (min(ranks, NODE) - 1, outside))
        else:
            over_links, over_network = self.size, self.size / NODE if outside else 0.0
        return max(over_links / gpu.link, over_network / gpu.network) / MESSAGES

    @property
    def gigabytes(self) -> float:
        return self.size / 1e9


def sent(plan: Plan, counts: Counts, ranks: int) -> dict[str, Sent]:
    """By what they are, in a step of the largest size; counts of rows, losses and norms are left out, which are kilobytes."""
    m, p, tokens = plan.model, plan.parallel, plan.by_step.largest
    away = (ranks - 1) / ranks
    found = {}
    if p.ep > 1:
        rows = tokens / ranks * len(m.moe_layers) * m.top_k * away
        loads = bool(plan.balance.aux_loss_coef)  # a pass beforehand that counts rows
        forward = rows * (1 + p.activation_checkpointing + loads)
        found = {
            "rows out, forward: x and routing weights": Sent(forward * (NUMBER * m.width + WEIGHT)),
            "rows home, forward: y": Sent(forward * NUMBER * m.width),
            "rows out, backward: dy": Sent(rows * NUMBER * m.width),
            "rows home, backward: dx and dweights": Sent(rows * (NUMBER * m.width + WEIGHT)),
        }
    size = 4 * (counts.params_total - (expert_weights(plan) if p.ep > 1 else 0)) * away
    if p.sums == "units":
        rounds = tokens // p.micro_batch_tokens // ranks
        found["gradients, folded each round"] = Sent(rounds * size)
        found["gradients, gathered at the end"] = Sent(size, direct=False)
    else:
        found["gradients, all-reduced once"] = Sent(2 * size, direct=False)
    return found


def padded(plan: Plan) -> float:
    """How many times the FLOPs the experts' products take, because an expert's rows of one micro-batch fill no whole tiles."""
    m = plan.model
    rows = plan.parallel.micro_batch_tokens * m.top_k / m.num_experts
    return math.ceil(rows / TILE) * TILE / rows


def seconds(plan: Plan, counts: Counts, gpu: Gpu, ranks: int) -> dict[str, float]:
    """What a step of the largest size takes by part, none of it at the same time as another. Experts take each micro-batch
    alone, whose tokens the plan says."""
    here, tokens = expected(gpu, ranks), plan.by_step.largest
    parts = step_parts(plan, counts, here, tokens)
    del parts["calls"]
    if plan.model.num_experts:
        units = tokens // plan.parallel.micro_batch_tokens // (1 if plan.parallel.ep > 1 else ranks)
        weights = (expert_weights(plan) - elsewhere(plan)) * units / STREAMED / here.memory_bytes_per_s
        parts["experts"] = max(parts["experts"] * padded(plan), READ * weights)
        parts["expert gradients"] = FOLDED * weights
    messages = sent(plan, counts, ranks)
    for name, said in (("rows", "rows on the wire"), ("gradients", "gradients on the wire")):
        parts[said] = sum(it.seconds(gpu, ranks) for what, it in messages.items() if what.startswith(name))
    return {name: value for name, value in parts.items() if value}
