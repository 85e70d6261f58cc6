"""What a step on several ranks takes beside memory: rows that an expert's rank receives, bytes that a rank sends, seconds.

With parallel.ep=1 every rank has all experts. With parallel.ep=P each of P ranks has E/P of them, and rows travel: in the
forward pass x out and y home, in the backward pass dy out and dx home, K of each for every token and MoE layer. Of balanced
routing 1/P stays where it is. Of gradients all travel with ep=1, and with ep=P those of what is no routed expert.

Letters: P ranks, U tokens of a micro-batch, n of these in a step, E experts, K top-k, D width.
"""

import math
from dataclasses import dataclass

from harness.model.counts import Counts
from harness.model.precision import Precisions
from harness.plan.schema import Plan
from harness.train.estimate import STREAMED, expected, expert_weights, step_parts
from harness.train.named_gpus import MESSAGES, NODE, Gpu
from kernels import Arithmetic
from kernels.units import pools

WEIGHT = 4  # bytes of a routing weight, which goes out with a row, and of its gradient, which comes home
# Rows that the expert kernels take at a time, and that their weight gradients do (kernels/triton/configuration.py).
TILE, INNER = 128, 64


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


def number(plan: Plan) -> int:
    """Bytes of a number of a row: in the dtype of products, in which y and dx are exact."""
    return 4 if plan.precision.format == "fp32" else 2


def sent(plan: Plan, counts: Counts, ranks: int) -> dict[str, Sent]:
    """By what they are, in a step of the largest size; counts of rows, losses and norms are left out, which are kilobytes."""
    m, p, tokens = plan.model, plan.parallel, plan.by_step.largest
    away = (ranks - 1) / ranks
    found = {}
    if p.ep > 1:
        rows = tokens / ranks * len(m.moe_layers) * m.top_k * away
        loads = bool(plan.balance.aux_loss_coef)  # a pass beforehand that counts rows
        forward = rows * (1 + p.activation_checkpointing + loads)
        row = number(plan) * m.width
        found = {
            "rows out, forward: x and routing weights": Sent(forward * (row + WEIGHT)),
            "rows home, forward: y": Sent(forward * row),
            "rows out, backward: dy": Sent(rows * row),
            "rows home, backward: dx and dweights": Sent(rows * (row + WEIGHT)),
        }
    size = 4 * (counts.params_total - (expert_weights(plan) if p.ep > 1 else 0)) * away
    if p.sums == "units":
        rounds = tokens // p.micro_batch_tokens // ranks
        found["gradients, folded each round"] = Sent(rounds * size)
        found["gradients, gathered at the end"] = Sent(size, direct=False)
    else:
        found["gradients, all-reduced once"] = Sent(2 * size, direct=False)
    return found


@dataclass(frozen=True)
class Calls:
    """How a rank's experts meet the rows of a step on a GPU: in `count` calls forward and backward, each with the rows of
    `units` micro-batches."""

    count: int
    units: int

    @classmethod
    def of(cls, plan: Plan, ranks: int) -> "Calls":
        rounds = plan.by_step.largest // plan.parallel.micro_batch_tokens // ranks
        if plan.parallel.ep == 1:
            return cls(rounds, 1)
        precision = Precisions(Arithmetic.of("native"), plan.precision).low
        return cls(rounds, ranks) if pools(precision) else cls(rounds * ranks, 1)

    def padded(self, plan: Plan) -> float:
        """How many times their FLOPs the products take, because an expert's rows do not fill whole tiles: up, down and their
        gradients in rows of a call; the weights' gradients, a third of all, in those of a micro-batch."""
        rows = plan.parallel.micro_batch_tokens * plan.model.top_k / plan.model.num_experts
        together = self.units * rows
        return (2 * math.ceil(together / TILE) * TILE / together + math.ceil(rows / INNER) * INNER / rows) / 3

    def bytes_read(self, weights: int) -> float:
        """bf16 operands of so many weights, forward and backward."""
        return 2 * 2 * weights * self.count

    def bytes_added(self, weights: int) -> float:
        """fp32 gradients. Of several units in a call they are added as they are made: a total is read and written. Of one they
        are written, read again, and added to it. The first of a step are the total."""
        return 4 * weights * ((2 if self.units > 1 else 4) * self.count - 1)


def seconds(plan: Plan, counts: Counts, gpu: Gpu, ranks: int) -> dict[str, float]:
    """What a step of the largest size takes by part, none of it at the same time as another. The plan says the micro-batch."""
    here, tokens = expected(gpu, ranks), plan.by_step.largest
    parts = step_parts(plan, counts, here, tokens)
    del parts["calls"]
    if plan.model.num_experts:
        calls, weights = Calls.of(plan, ranks), expert_weights(plan) // plan.parallel.ep
        streamed = STREAMED * here.memory_bytes_per_s
        parts["experts"] = max(parts["experts"] * calls.padded(plan), calls.bytes_read(weights) / streamed)
        parts["expert gradients"] = calls.bytes_added(weights) / streamed
    messages = sent(plan, counts, ranks)
    for name, said in (("rows", "rows on the wire"), ("gradients", "gradients on the wire")):
        parts[said] = sum(it.seconds(gpu, ranks) for what, it in messages.items() if what.startswith(name))
    return {name: value for name, value in parts.items() if value}
