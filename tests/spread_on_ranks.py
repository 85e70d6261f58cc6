"""What each process runs for test_train_spread.py: experts spread over ranks, at a layer and in steps. Not a test itself.

usage: spread_on_ranks.py FOLDER WHAT NAME ...       WHAT: layers | steps; each rank writes FOLDER/RANK.json: {name: its bits}
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import micro
import torch
from test_train_precision import FP8, NVFP4
from units_on_ranks import CASES, STEPS, UNITS, fault_in, lively, steps

from harness.model.transport.all_to_all import AllToAll
from harness.ranks import Ranks, join, leave
from harness.train.chain import hash_tensors
from harness.train.determinism import set_torch
from kernels import Precision, moe_mlp

WIDTH, EXPERT_WIDTH, TOKENS = 32, 32, 12
STEP_CASES = (
    "bf16, muon, bias", "fp32, balanced", "a unit a rank", "softmax, swiglu, checkpointing", "ahead, clipped scores", "stages",
    "tasks, masked",
)  # fmt: skip
NEAREST = ("precision.stochastic_rounding=off",)
MORE_CASES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "hash, shared": (micro.MOE, ("model.router=hash", "balance=none", "model.shared_experts=1")),
    "soap, many dropped": (micro.MOE, ("optim.matrices=soap", "balance.capacity_factor=0.25", "model.top_k=7")),
    "nvfp4": (NVFP4, ()),
    "nvfp4, dropped": (NVFP4, ("balance.capacity_factor=0.5",)),
    "nvfp4 of experts": (NVFP4, ("precision.tensor_scale=expert",)),
    "mxfp4": (FP8, ("precision.format=mxfp4",)),
    "fp8, drawn": (FP8, ()),
    "fp8, factors drawn": (FP8, ("precision.weight_gradients=quantized",)),
    "fp8": (FP8, NEAREST),
    "mxfp8": (FP8, (*NEAREST, "precision.format=mxfp8")),
}
ALL_CASES = CASES | MORE_CASES


def one_expert(g, tokens, experts, top_k):
    return torch.zeros(tokens, top_k, dtype=torch.int64)


def last_expert(g, tokens, experts, top_k):
    return torch.full((tokens, top_k), experts - 1)


def anywhere(g, tokens, experts, top_k):
    return torch.stack([torch.randperm(experts, generator=g)[:top_k] for _ in range(tokens)])


def some_dropped(g, tokens, experts, top_k):
    expert_TK = anywhere(g, tokens, experts, top_k)
    return expert_TK.masked_fill(torch.rand(expert_TK.shape, generator=g) < 0.3, -1)


def all_dropped(g, tokens, experts, top_k):
    return torch.full((tokens, top_k), -1)


def mixed(g, tokens, experts, top_k):
    """Of the first unit everything goes to one expert, of the second nothing is left, others are anywhere."""
    mixed.unit = (getattr(mixed, "unit", -1) + 1) % 4
    return (one_expert, all_dropped, anywhere, some_dropped)[mixed.unit](g, tokens, experts, top_k)


# name: routing of a unit, tokens, experts, top-k
ROUTINGS = {
    "anywhere": (anywhere, TOKENS, 8, 2),
    "one expert": (one_expert, TOKENS, 8, 1),
    "the last expert, twice": (last_expert, TOKENS, 8, 2),
    "every expert": (anywhere, TOKENS, 4, 4),
    "twelve experts": (anywhere, TOKENS, 12, 3),
    "a token": (anywhere, 1, 8, 2),
    "one of many": (anywhere, TOKENS, 64, 1),
    "some dropped": (some_dropped, TOKENS, 8, 3),
    "all dropped": (all_dropped, TOKENS, 8, 2),
    "mixed": (mixed, TOKENS, 8, 2),
}
HOW = [(backend, arithmetic) for backend in ("torch", "brgemm") for arithmetic in ("native", "emulated", "full")]


def layer(name: str, backend: str, arithmetic: str, activation: str, ranks: Ranks) -> list[str]:
    """The bytes of y, dx and dweight of each of four units and of both weights' gradients, of experts in their order."""
    routing, tokens, experts, top_k = ROUTINGS[name]
    g = torch.Generator().manual_seed(sum(map(ord, name)))
    precision = Precision.of(arithmetic)
    outer = EXPERT_WIDTH * (2 if activation == "swiglu" else 1)
    up, down = (torch.randn(experts, *shape, generator=g) / 8 for shape in ((WIDTH, outer), (EXPERT_WIDTH, WIDTH)))
    down[experts // 2] = 0  # of which outputs and gradients are zeros with signs
    units = [
        (torch.randn(tokens, WIDTH, generator=g), routing(g, tokens, experts, top_k), torch.rand(tokens, top_k, generator=g),
         torch.randn(tokens, WIDTH, generator=g))
        for _ in range(4)
    ]  # fmt: skip
    transport = AllToAll(SimpleNamespace(num_experts=experts), None, ranks) if ranks.world > 1 else None
    held = slice(transport.held.start, transport.held.stop) if transport else slice(None)
    up, down = (w[held].clone().requires_grad_() for w in (up, down))
    how = {"activation": activation, "backend": backend, "precision": precision, "key_4": None}
    found = []
    for x, expert_TK, weight_TK, dy in units[ranks.rank :: ranks.world]:
        x, weight_TK = precision.arithmetic.operand(x).requires_grad_(), weight_TK.requires_grad_()
        call = transport.experts if transport else moe_mlp
        y = call(x, up, down, expert_TK, weight_TK, **how)
        y.backward(dy)
        found.append([t.detach().contiguous().view(torch.uint8).numpy().tobytes().hex() for t in (y, x.grad, weight_TK.grad)])
    gradients = transport.take_gradients() if transport else [up.grad, down.grad]
    if transport:
        assert up.grad is None and down.grad is None
        gradients = [ranks.everyones(t).flatten(0, 1) for t in gradients]
        found = [unit for of_round in zip(*ranks.everyones_values(found)) for unit in of_round]
    return [*sum(found, []), *(t.contiguous().numpy().tobytes().hex() for t in gradients)]


def layers(ranks: Ranks) -> dict[str, list[str]]:
    set_torch()
    return {
        f"{name}, {backend}, {arithmetic}, {activation}": layer(name, backend, arithmetic, activation, ranks)
        for name in ROUTINGS
        for backend, arithmetic in HOW
        for activation in ("relu2", "swiglu")
    }


def whole(built) -> dict[str, torch.Tensor]:
    """Of a session everything that a checkpoint holds, of all experts."""
    stacks = built.sums.squares.stacks if built.plan.parallel.ep > 1 else ()
    return {
        name: built.ranks.everyones(t).flatten(0, 1) if any(name.endswith(f".{stack}") for stack in stacks) else t
        for name, t in built.state().items()
    }


def traced(case: str, ranks: Ranks):
    """What `steps` of units_on_ranks.py finds, under a state of all experts."""
    set_torch()
    words = (*UNITS, *([f"parallel.ep={ranks.world}"] if ranks.world > 1 else []))
    if case == "fault":
        return fault_in(lively(NVFP4, (), ranks, *words))
    built = lively(*ALL_CASES[case], ranks, *words)
    found = steps(built)
    held = {p.shape[0] for name, p in built.model.named_parameters() if name.endswith("feedforward.up") and p.ndim == 3}
    return {key: found[key] for key in ("steps", "groups")} | {
        "state": hash_tensors(whole(built)), "held": sorted(held), "count": STEPS,
    }  # fmt: skip


if __name__ == "__main__":
    folder, what, *names = sys.argv[1:]
    together = join(timeout_s=120)
    found = layers(together) if what == "layers" else {name: traced(name, together) for name in names}
    Path(folder, f"{together.rank}.json").write_text(json.dumps(found))
    leave(together)
