"""What a plan takes of memory, part by part, before it is run.

Weights, gradients and optimizer state are counted. Activations are what autograd keeps of a micro-batch: numbers a token, read
off what steps of small lanes allocate, which `tests/test_train_memory.py` holds them against.
"""

from dataclasses import dataclass
from types import ModuleType

import torch

from harness.model.build import build_model
from harness.model.counts import count
from harness.model.init import owned
from harness.model.part import Part
from harness.model.transformer import LOGITS_AT_ONCE
from harness.optim.optimizers.muon import AT_ONCE
from harness.plan import parts
from harness.plan.schema import Plan
from harness.train import sums
from harness.train.machine import Machine
from kernels import Arithmetic
from kernels.activation import ACTIVATIONS

MIB, GIB = 1 << 20, 1 << 30
PROGRAM_BYTES = 0.7 * GIB  # interpreter, torch, compiled code
BLOCK_BYTES = 28  # a token and unit of width that a block keeps: streams in fp32, operands in bf16
ROW_BYTES = 2  # a token, chosen expert and unit of its pre-activation
ROUTER_BYTES = 16  # a token and expert: logits, scores and their gradients
LOGIT_NUMBERS = 3  # fp32 numbers a logit: itself, its gradient, what a softmax takes; a cap keeps one more
ITERATED_NUMBERS = 6  # fp32 numbers a weight of the AT_ONCE matrices that muon turns together where no kernel in C++ does


@dataclass(frozen=True)
class Memory:
    """Bytes of one process. Of one micro-batch gradients come as activations go; of several (`accumulates`) they are there
    from the second on. `update` (what optimizers hold beside their state, and the copy that a measured step takes) comes when
    activations and logits are gone."""

    program: int
    weights: int
    operands: int  # copies of weights in the products' dtype, which the backward needs too
    gradients: int
    moments: int
    activations: int
    logits: int
    update: int
    accumulates: bool
    sums: int = 0  # this rank's part of the gradients' sums, where units are summed over several ranks
    messages: int = 0  # gradients under way, when a unit's passes are over

    @property
    def held(self) -> int:
        """By the plan, beside the program, at the fullest moment of a step."""
        passes = self.operands + self.activations + self.logits + self.accumulates * self.gradients
        return self.weights + self.moments + self.sums + max(passes, self.gradients + max(self.update, self.messages))

    @property
    def total(self) -> int:
        return self.program + self.held

    def __str__(self) -> str:
        found = {name: size for name, size in vars(self).items() if size and name != "accumulates"}
        return ", ".join(f"{name} {_size(size)}" for name, size in found.items())


def memory(plan: Plan, here: Machine) -> Memory:
    with torch.device("meta"):
        model = build_model(plan, "full")
    m, weights = plan.model, count(model).params_total
    by_optimizer = {name: 0 for name in dict.fromkeys((plan.optim.matrices, plan.optim.others))}
    cast = largest = most = 0
    for _, p, _, own in owned(model):
        by_optimizer[plan.optim.matrices if own.group in parts.MATRICES else plan.optim.others] += p.numel()
        if own.group in ("dense", "head") or (own.by_expert and here.device == "cuda"):  # on a CPU kernels take masters
            cast += p.numel()
        most = max(most, p.numel())
        if own.group in parts.MATRICES:
            largest = max(largest, p.shape[-2] * p.shape[-1])
    step_tokens = plan.by_step.largest
    tokens = plan.parallel.micro_batch_tokens or step_tokens
    fan = ACTIVATIONS[m.activation].fan
    dense, moe = m.layers - len(m.moe_layers), len(m.moe_layers)
    rows = dense * fan * m.ffn_width + moe * (m.top_k * fan * m.expert_width + m.shared_experts * fan * m.expert_width)
    beside = sum(module.kept_bytes() for module in model.modules() if isinstance(module, Part))
    a_token = BLOCK_BYTES * m.layers * m.width + ROW_BYTES * rows + ROUTER_BYTES * moe * m.num_experts
    if plan.parallel.activation_checkpointing:  # the streams between blocks, and one block's
        a_token, beside = a_token / m.layers + 4 * m.layers * m.width, beside / m.layers
    folds = plan.parallel.sums == "units" and here.world_size > 1
    iterated = 0 if here.brgemm or plan.optim.matrices == "adamw" else 4 * ITERATED_NUMBERS * min(AT_ONCE * largest, weights)
    return Memory(
        program=int(PROGRAM_BYTES),
        weights=4 * weights,
        operands=2 * cast if Arithmetic.of(here.arithmetic).dtype == torch.bfloat16 else 0,
        gradients=4 * weights,
        moments=sum(4 * numbers_per_weight(name) * count for name, count in by_optimizer.items()),
        activations=int((a_token + beside) * tokens),
        logits=4 * (LOGIT_NUMBERS + (plan.gains.softcap > 0)) * min(tokens * m.vocab_size, LOGITS_AT_ONCE[here.device]),
        update=iterated + 4 * max(by_optimizer.values()),
        accumulates=tokens < step_tokens and not folds,
        sums=4 * weights // here.world_size if folds else 0,
        messages=2 * 4 * min(max(most, sums.AT_ONCE), weights) if folds else 0,
    )


def numbers_per_weight(name: str) -> float:
    """What an optimizer's state takes; 2 of one that says nothing."""
    known: ModuleType | None = parts.without_torch("optim", name)
    return getattr(known, "NUMBERS_PER_WEIGHT", 2)


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
