"""What a plan takes of memory, part by part, before it is run.

Weights, gradients and optimizer state are counted. Activations are what autograd keeps of a micro-batch: numbers a token, read
off what steps of small lanes allocate, which `tests/test_train_memory.py` holds them against. Where experts are spread over
ranks, it is what one of them takes; rows are as many as balanced routing sends it (`harness/train/wire.py` has the worst).
"""

from collections import Counter
from dataclasses import dataclass
from types import ModuleType

import torch

from harness.model.build import build_model
from harness.model.init import owned
from harness.model.part import Part
from harness.model.transformer import LOGITS_AT_ONCE
from harness.optim.norms import CHUNK
from harness.optim.optimizers.muon import AT_ONCE
from harness.plan import parts
from harness.plan.schema import Plan
from harness.train import sums
from harness.train.machine import Machine
from kernels import Arithmetic
from kernels.activation import ACTIVATIONS

MIB, GIB = 1 << 20, 1 << 30
PROGRAM_BYTES = 0.7 * GIB  # interpreter, torch, compiled code
# A token and unit of width that a block keeps, by whether it is compiled and the bytes of an operand; streams are fp32.
BLOCK_BYTES = {(True, 2): 28, (True, 4): 46, (False, 2): 47, (False, 4): 56}
SCORE_BYTES = 4  # a token and expert: the scores, which the backward needs
ROUTER_BYTES = 24  # the same, while a layer's router works: logits and what is sorted
ROUTE_BYTES = 20  # a row where experts are spread: its routing weight at the owner, two places at home
# The same and a unit of width, in a layer's backward: gradients that came, those that go home, these at home, once more with
# zeros behind them, in the products' dtype; and as they are made, in fp32, each unit's and all.
UNDER_WAY, MADE_BYTES = 4, 8
LOGIT_NUMBERS = 3  # fp32 numbers a logit: itself, its gradient, what a softmax takes; a cap keeps one more
ITERATED_BYTES = {torch.bfloat16: 16, torch.float32: 24}  # of a weight that muon turns together where no kernel in C++ does


@dataclass(frozen=True)
class Memory:
    """Bytes of one process. Of one micro-batch gradients come as activations go; of several (`accumulates`) they are there
    from the second on; where ranks fold each unit, those of experts alone, which are spread (`adds_up`). `update` (what
    optimizers hold beside their state, and the copy that a measured step takes) comes when activations and logits are gone."""

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
    experts: int = 0  # of `weights`, those of routed experts
    copies: int = 0  # of experts' weights in the products' dtype, held from step to step
    layer: int = 0  # what one layer's backward has beside activations, when logits are gone
    rows: int = 0  # kept for the backward of rows that experts here computed for all ranks
    adds_up: bool = False

    @property
    def summed(self) -> int:
        """Gradients that are there while a micro-batch passes."""
        return self.gradients if self.accumulates else self.experts if self.adds_up else 0

    @property
    def passes(self) -> int:
        """What a micro-batch takes at its fullest moment."""
        return self.operands + self.activations + self.rows + self.summed + max(self.logits, self.layer)

    @property
    def held(self) -> int:
        """By the plan, beside the program, at the fullest moment of a step."""
        always = self.weights + self.copies + self.moments + self.sums
        return always + max(self.passes, self.gradients + max(self.update, self.messages))

    @property
    def total(self) -> int:
        return self.program + self.held

    def __str__(self) -> str:
        parts = {name: size for name, size in vars(self).items() if name not in ("accumulates", "adds_up", "experts", "layer")}
        return ", ".join(f"{name} {_size(size)}" for name, size in parts.items() if size)


def memory(plan: Plan, here: Machine) -> Memory:
    m, ep, weights = plan.model, parts.holders(plan.parallel), Weights.of(plan)
    dtype = Arithmetic.of(here.arithmetic).dtype
    copied = 2 if dtype == torch.bfloat16 else 0  # bytes of a weight
    holds = here.device == "cuda" and plan.precision.format == "bf16"
    casts = here.device == "cuda" and not holds  # on a CPU kernels take masters
    share = plan.by_step.largest // here.world_size
    tokens = plan.parallel.micro_batch_tokens or share
    several, folds = tokens < share, plan.parallel.sums == "units" and here.world_size > 1
    alike = weights.total - (weights.experts if ep > 1 else 0)  # which every rank has
    turned = 0 if here.brgemm or plan.optim.matrices == "adamw" else ITERATED_BYTES[dtype] * weights.stack
    activations, rows = _kept(plan, tokens, weights.beside, dtype.itemsize, here.compiled)
    in_bf16 = 2 * (here.device == "cpu" and not here.brgemm and dtype == torch.bfloat16 and ep == 1)  # before they are fp32
    return Memory(
        program=int(PROGRAM_BYTES),
        weights=4 * weights.total,
        operands=copied * (weights.products + casts * weights.experts),
        gradients=4 * weights.total,
        moments=sum(4 * numbers_per_weight(name) * count for name, count in weights.by_optimizer.items()),
        activations=activations,
        logits=4 * (LOGIT_NUMBERS + (plan.gains.softcap > 0)) * min(tokens * m.vocab_size, LOGITS_AT_ONCE[here.device]),
        update=max(turned, 8 * min(CHUNK, weights.largest)) + 4 * max(weights.by_optimizer.values()),
        accumulates=several and not folds,
        sums=4 * alike // here.world_size if folds else 0,
        messages=_messages(weights, alike, folds) if here.world_size > 1 else 0,
        experts=4 * weights.experts,
        copies=copied * weights.experts * holds,
        layer=_layer(plan, tokens, (4 + in_bf16) * weights.experts if several or ep > 1 else 0, dtype.itemsize),
        rows=rows,
        adds_up=several and ep > 1,
    )


def _messages(weights: "Weights", alike: int, folds: bool) -> int:
    """Bytes of gradients under way: bucket by bucket where units are folded, else all at once."""
    return 2 * 4 * min(max(weights.everywhere, sums.AT_ONCE), alike) if folds else 4 * weights.total


def row_bytes(plan: Plan, size: int) -> int:
    """What experts keep of a row for the backward, where they are spread. `size`: of a number in the products' dtype."""
    m = plan.model
    return size * (m.width + ACTIVATIONS[m.activation].fan * m.expert_width) + ROUTE_BYTES


def _kept(plan: Plan, tokens: int, beside: int, size: int, compiled: bool) -> tuple[int, int]:
    """Bytes that autograd keeps of a micro-batch, and of rows that came from other ranks. `beside`: of a token, what parts say
    they keep; `size` as in `row_bytes`."""
    m, fan = plan.model, ACTIVATIONS[plan.model.activation].fan
    dense, moe = m.layers - len(m.moe_layers), len(m.moe_layers)
    routed, received = moe * m.top_k * fan * m.expert_width, 0
    if plan.parallel.ep > 1:
        routed, received = 0, moe * m.top_k * row_bytes(plan, size)
    pre_activations = fan * (dense * m.ffn_width + moe * m.shared_experts * m.expert_width) + routed
    blocks = BLOCK_BYTES[compiled, size] * m.layers * m.width
    a_token = blocks + size * pre_activations + SCORE_BYTES * moe * m.num_experts + beside
    if plan.parallel.activation_checkpointing:  # the streams between blocks, and one block's
        a_token, received = a_token / m.layers + 4 * m.layers * m.width, received / max(1, moe)
    return int(a_token * tokens), int(received * tokens)


def _layer(plan: Plan, tokens: int, gradients: int, size: int) -> int:
    """Bytes of a MoE layer's backward beside what was kept. `gradients`: of all experts here, as one micro-batch has them;
    `size` as in `row_bytes`."""
    m = plan.model
    if not m.moe_layers:
        return 0
    rows = (UNDER_WAY * size + MADE_BYTES) * m.top_k * m.width if plan.parallel.ep > 1 else 0
    return max(gradients // len(m.moe_layers) + tokens * rows, ROUTER_BYTES * tokens * m.num_experts)


@dataclass(frozen=True)
class Weights:
    """How many numbers a rank's parameters have. `experts`: routed ones; `products`: what each pass casts, beside them;
    `largest`: one parameter; `everywhere`: one that all ranks have; `stack`: matrices of one shape, as many as Muon turns at
    once; `beside`: bytes of a token that parts say they keep."""

    total: int
    experts: int
    products: int
    largest: int
    everywhere: int
    stack: int
    by_optimizer: dict[str, int]
    beside: int

    @classmethod
    def of(cls, plan: Plan) -> "Weights":
        """Counted on the meta device."""
        with torch.device("meta"):
            model = build_model(plan, "full")
        by_optimizer = {name: 0 for name in dict.fromkeys((plan.optim.matrices, plan.optim.others))}
        stacks: Counter[torch.Size] = Counter()
        experts = products = largest = everywhere = 0
        holders = parts.holders(plan.parallel)
        for _, p, _, own in owned(model):
            numbers = p.numel() // holders if own.by_expert else p.numel()
            by_optimizer[plan.optim.matrices if own.group in parts.MATRICES else plan.optim.others] += numbers
            experts += numbers * own.by_expert
            products += numbers * (own.group in ("dense", "head"))
            largest = max(largest, numbers)
            everywhere = max(everywhere, numbers * (not own.by_expert or holders == 1))
            if own.group in parts.MATRICES:
                stacks[p.shape[-2:]] += numbers // p.shape[-2:].numel()
        stack = max(min(AT_ONCE, count) * shape.numel() for shape, count in stacks.items())
        beside = sum(module.kept_bytes() for module in model.modules() if isinstance(module, Part))
        return cls(sum(by_optimizer.values()), experts, products, largest, everywhere, stack, by_optimizer, beside)


def numbers_per_weight(name: str) -> float:
    """What an optimizer's state takes; 2 of one that says nothing."""
    known: ModuleType | None = parts.without_torch("optim", name)
    return getattr(known, "NUMBERS_PER_WEIGHT", 2)


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
