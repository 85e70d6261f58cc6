"""What each process runs for test_train_units.py: steps of many micro plans under `parallel.sums=units`. Not a test itself.

usage: units_on_ranks.py FOLDER CASE ...        each rank writes FOLDER/RANK.json: {case: what its steps left behind}
"""

import json
import sys
from pathlib import Path

import micro
import torch
from test_train_precision import FP8, NVFP4

from harness.ranks import Ranks, join, leave
from harness.train.chain import hash_tensors
from harness.train.determinism import set_torch
from kernels import NonFiniteOperand

STEPS = 3
UNITS = ("parallel.sums=units", "parallel.micro_batch_tokens=64")  # four of a step of 256 tokens
FP32 = ("precision.format=fp32",)
LOSSES = ("balance.aux_loss_coef=0.5", "balance.sequence_loss_coef=0.25", "balance.z_loss_coef=0.125")
MASKED = ["data.document_mask=true"]
CASES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "bf16, muon, bias": (micro.MOE, ("balance.rule=bias", "balance.rate=0.02")),
    "dense, clipped": (micro.DENSE, ("optim.clip_norm=0.1", "optim.matrices=adamw")),
    "fp32, balanced": (
        micro.MOE, (*FP32, *LOSSES, "balance.capacity_factor=1.0", "optim.expert_gradient_scale=load", "optim.clip_norm=0.1")
    ),
    "a unit a rank": (micro.MOE, (*LOSSES, "parallel.micro_batch_tokens=128")),
    "softmax, swiglu, checkpointing": (
        micro.MOE,
        ("model.router=softmax_topk", "balance=none", "model.activation=swiglu", "parallel.activation_checkpointing=true"),
    ),
    "ahead, clipped scores": (
        micro.MOE, ("ahead.weights=[0.5,0.25]", "optim.qk_clip=0.05", "model.qk_norm=false", "model.shared_experts=1")
    ),
    "stages": (micro.MOE, ("batch.stages=[128,256]", "batch.stage_shares=[0.02,0.98]")),
    "tasks, masked": (micro.TASKS_MOE, tuple(MASKED)),
    "memories, hyper": (
        micro.DENSE,
        ("model.memories=[bigram,smear]", "memory.bigram.columns=8", "model.residual=hyper", "optim.matrices=soap"),
    ),
    "nvfp4": (NVFP4, ()),
    "fp8": (FP8, ()),
}  # fmt: skip
FOUR = ("bf16, muon, bias", "fp32, balanced", "nvfp4")  # also on four ranks


def session(case: str, ranks: Ranks, *words: str):
    """Of a case whose outputs and head are not zero: every gradient has a value from the first step on."""
    lane, own = CASES[case]
    return lively(lane, own, ranks, *words)


def lively(lane: list[str], own: tuple[str, ...], ranks: Ranks, *words: str):
    built = micro.session("init.zero_output=false", *words, *own, lane=lane, ranks=ranks)
    with torch.no_grad():
        built.model.head.weight.normal_(0, 0.25, generator=torch.Generator().manual_seed(1))
    return built


def steps(built) -> dict:
    """All bits that some steps leave: of every step what the log has, at the end the weights and the optimizer's state."""
    found = []
    for index in range(STEPS):
        it = built.step(index, measured=index == STEPS - 1)
        numbers = {"loss": it.loss, "norms": it.norms, **it.auxiliary}
        found.append({name: t.numpy().tobytes().hex() for name, t in numbers.items()})
        found[-1] |= {"counts": it.count_LE.tolist(), "dropped": None if it.dropped_L is None else it.dropped_L.tolist()}
    return {"steps": found, "state": hash_tensors(built.state()), "groups": it.groups, "precision": it.precision}


def fault_in(built) -> str:
    """What a step says in which a token of the second unit alone, and one of the fourth, have an embedding beyond numbers."""
    units = [set(built.batches.batch(0, unit, 4)[0].flatten().tolist()) for unit in range(4)]
    with torch.no_grad():
        for unit in (1, 3):
            built.model.embedding[min(units[unit].difference(*(units[u] for u in range(4) if u != unit)))] = float("inf")
    try:
        built.step(0)
    except NonFiniteOperand as found:
        return str(found)
    return "no fault"


def traced(case: str, ranks: Ranks):
    set_torch()
    if case == "fault":
        return fault_in(session("nvfp4", ranks, *UNITS))
    return steps(session(case, ranks, *UNITS))


if __name__ == "__main__":
    folder, *cases = sys.argv[1:]
    together = join(timeout_s=120)
    found = {case: traced(case, together) for case in cases}
    Path(folder, f"{together.rank}.json").write_text(json.dumps(found))
    leave(together)
