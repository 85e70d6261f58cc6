"""What writing costs: prefill and decoding of a lane and of its dense twin, by batch, in turns; bytes of weights and cache, and
how many experts a batch touches.

A batch reads a prompt of half the model's length at once, then writes token by token with a cache. Matrices lie in the dtype of
products, as a served model's do, and nothing is compiled. Weights are as a run begins, or those of a finished run (`run=`),
whose routing is that of text; tokens are random.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.bench.table import Table
from harness.errors import UserError
from harness.model.build import build_model
from harness.model.init import initialize, owned
from harness.model.transformer import Transformer
from harness.model.where import Cache, Where
from harness.plan import parts
from harness.plan.parts import MATRICES
from harness.plan.schema import Plan
from harness.train.machine import Machine, synchronize
from kernels import Arithmetic

BATCHES = (1, 4, 16, 64)
WRITTEN = 16  # tokens a row
SERVED = (*MATRICES, "head")  # groups that lie in the products' dtype
TABLE = Table(22, (
    (7, ",", "batch"), (12, ",.0f", "prefill", "tokens/s"), (12, ",.0f", "decode", "tokens/s"), (11, ",.2f", "a step", "ms"),
    (11, ",.1f", "cache", "MiB"), (12, ".1f", "experts", "touched"), (12, ".2f", "of the twin", "decode"),
))  # fmt: skip


def decode(
    plans: dict[str, Plan], here: Machine, rounds: int, weights: dict[str, Tensor] | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """`plans`: the lane's, then its twin's, by name; `weights` of the first one, else as a run begins. Medians over rounds.

    Raises:
        UserError: a model does not decode, or not so many tokens.
    """
    for plan in plans.values():
        _check(plan)
    models = {name: served(plan, here, weights if at == 0 else None) for at, (name, plan) in enumerate(plans.items())}
    sizes = {name: sum(p.numel() * p.element_size() for p in model.parameters()) for name, model in models.items()}
    for name, size in sizes.items():
        say(f"{name}: {size / 2**20:,.1f} MiB of weights, {sum(p.numel() for p in models[name].parameters()) / 1e6:,.2f} M")
    say(TABLE.head("reading, then writing"))
    rows = []
    for batch in BATCHES:
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
        for turn in range(rounds + 1):
            for name, model in models.items():
                took = _once(model, batch, here)
                if turn:
                    seen[name].append(took)
        found = {name: [statistics.median(column) for column in zip(*times)] for name, times in seen.items()}
        twin_s = list(found.values())[-1][1]
        for name, (read_s, written_s) in found.items():
            kept, touched = _kept(models[name], batch, here)
            prompt = models[name].shape.sequence_length // 2
            row = {
                "name": name, "batch": batch, "prefill_tokens_s": batch * prompt / read_s, "step_s": written_s / WRITTEN,
                "decode_tokens_s": batch * WRITTEN / written_s, "cache_bytes": kept, "experts_touched": touched,
                "of_twin": twin_s / written_s,
            }  # fmt: skip
            figures = (row["prefill_tokens_s"], row["decode_tokens_s"], 1e3 * row["step_s"], kept / 2**20)
            say(TABLE.row(f"  {name}", batch, *figures, touched, row["of_twin"]))
            rows.append(row)
    return {"precision": here.arithmetic, "rounds": rounds, "written": WRITTEN, "weight_bytes": sizes, "rows": rows}


def _check(plan: Plan) -> None:
    m = plan.model
    if m.sequence_length < 2 * WRITTEN:
        raise UserError(
            f"model.sequence_length={m.sequence_length} of {plan.lane.name}: {WRITTEN} tokens are written after half of it",
            f"choose model.sequence_length={2 * WRITTEN} or more",
        )
    for name in m.attentions:
        if "decoding" in parts.part("attention", name).CANNOT:
            raise UserError(f"{plan.lane.name} has the attention {name}, which does not decode", "use another attention")


@torch.no_grad()
def served(plan: Plan, here: Machine, weights: dict[str, Tensor] | None) -> Transformer:
    """The model with its matrices in the products' dtype."""
    backend = "triton" if here.device == "cuda" else "torch"
    with here.torch_device:
        model = build_model(plan, here.arithmetic, backend)
    if weights is None:
        plan.init.zero_output = False
        initialize(model, plan.init, plan.seed)
    else:
        model.load_state_dict(weights)
    dtype = Arithmetic.of(here.arithmetic).dtype
    for _, p, _, own in owned(model):
        if own.group in SERVED:
            p.data = p.data.to(dtype)
    return model.to(here.torch_device).eval().requires_grad_(False)


@torch.no_grad()
def _once(model: Transformer, batch: int, here: Machine) -> tuple[float, float]:
    """Seconds to read the prompts, and to write WRITTEN tokens after each."""
    token_BS, cache = _tokens(model, batch), Cache()
    prompt = model.shape.sequence_length // 2
    synchronize(here.device)
    begun = time.perf_counter()
    model.logits(token_BS[:, :prompt], cache)
    synchronize(here.device)
    middle = time.perf_counter()
    for at in range(prompt, prompt + WRITTEN):
        model.logits(token_BS[:, at : at + 1], cache)
    synchronize(here.device)
    return middle - begun, time.perf_counter() - middle


@torch.no_grad()
def _kept(model: Transformer, batch: int, here: Machine) -> tuple[int, float | None]:
    """Bytes of the cache after the prompt, and how many experts the next tokens use, a MoE layer; None of a dense model."""
    token_BS, cache = _tokens(model, batch), Cache()
    prompt = model.shape.sequence_length // 2
    model.logits(token_BS[:, :prompt], cache)
    kept = cache.bytes
    routed = model.trunk(Where(token_BS[:, prompt : prompt + 1], cache=cache))[1]
    used = [int((layer.count_E > 0).sum()) for layer in routed]
    return kept, sum(used) / len(used) if used else None


def _tokens(model: Transformer, batch: int) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    found = torch.randint(model.shape.vocab_size, (batch, model.shape.sequence_length // 2 + WRITTEN), generator=draws)
    return found.to(model.embedding.device)
