"""Whole training steps in turns: a MoE lane, its dense twin, and the usual mask-and-loop MoE."""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.bench import random_tokens
from harness.bench.text import steps_lines
from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.schema import Plan
from harness.plan.steps import of_first_stage
from harness.train.machine import Machine, memory_available_bytes, synchronize
from harness.train.memory import GIB, memory

# Overrides of the MoE lane that its dense twin cannot have.
EXPERTS_ONLY = ("num_experts", "expert_width", "top_k", "shared_experts", "leading_dense_layers", "moe_every", "router")
EXPERTS_ONLY = (*(f"model.{name}" for name in EXPERTS_ONLY), "model.router_renormalize", "optim.expert_gradient_scale")
WARMUP = 2


def steps(words: list[str], here: Machine, rounds: int, loop: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Medians of the contestants, one step each in turn, or one after the other where memory does not hold all; `words`
    override a MoE lane. `loop`: whether the model with the plain loop over experts takes part."""
    with on_tokens(words) as known:
        ours = compose(known).plan
        plans, twin = {ours.lane.name: ours}, twin_of(ours, known)
        if loop:
            plans["mask and loop"] = compose([*known, "kernels.backend=reference"]).plan
        plans[twin.lane.name] = twin
        needed = sum(memory(plan, here).held for plan in plans.values())
        free = memory_available_bytes(here.device)
        if needed <= free:
            seconds = in_turns({name: session(plan, here) for name, plan in plans.items()}, rounds, here.device)
        else:
            say(f"one after the other, not in turns: together they take {needed / GIB:.0f} GiB, {free / GIB:.0f} GiB are free")
            seconds = one_by_one(plans, here, rounds)
    rows = _rows(plans, seconds, here)
    for line in steps_lines(here.as_record(), here.execution("bf16"), rows):
        say(line)
    return {"rounds": rounds, "rows": rows}


@contextmanager
def on_tokens(words: list[str]) -> Iterator[list[str]]:
    """`words`; of a lane of token files with random tokens, unless `data.shards` names others."""
    plan = compose(words).plan
    if plan.track.tokens.format != "bin" or plan.data.shards:
        yield words
        return
    with tempfile.TemporaryDirectory() as folder:
        yield [*words, "unranked=true", f"data.shards={random_tokens.write(Path(folder))}"]


def twin_of(ours: Plan, words: list[str]) -> Plan:
    """The plan of the lane's twin, overridden by what of `words` it has too.

    Raises:
        UserError: the lane names no twin.
    """
    if ours.lane.twin is None:
        raise UserError(f"{ours.lane.name} names no twin to compare with", "choose a lane that does: lane=tiny-moe-16e")
    lane = f"lane={ours.lane.twin}"
    own, twin = compose([f"lane={ours.lane.name}"]).plan, compose([lane]).plan
    shared = [word for word in words if word.split("=")[0] != "lane"]
    if not twin.model.num_experts:
        shared = [word for word in shared if word.split("=")[0] not in EXPERTS_ONLY and not word.startswith("balance")]
    if twin.precision.format != own.precision.format:
        shared = [word for word in shared if not word.startswith("precision")]
    return compose([lane, *shared]).plan


def session(plan: Plan, here: Machine):
    """What is timed. A batch that changes over the run is that of its first stage here."""
    from harness.data.corpora import load_for
    from harness.ranks import Ranks
    from harness.train.session import Session

    built = Session(of_first_stage(plan), here, Ranks(0, 1), load_for(plan))
    built.prepare_products()
    return built


def one_by_one(plans: dict[str, Plan], here: Machine, rounds: int) -> dict[str, list[float]]:
    """As `in_turns`, of contestants that do not fit beside each other."""
    seconds: dict[str, list[float]] = {}
    for name, plan in plans.items():
        seconds |= in_turns({name: session(plan, here)}, rounds, here.device)
        gc.collect()
    return seconds


def in_turns(sessions: dict[str, Any], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; two rounds of warm-up (compilation) are thrown away."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for step in range(rounds + WARMUP):
        for name, contestant in sessions.items():
            synchronize(device)
            start = time.perf_counter()
            contestant.step(step)
            synchronize(device)
            if step >= WARMUP:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _rows(plans: dict[str, Any], seconds: dict[str, list[float]], here: Machine) -> list[dict[str, Any]]:
    from harness.model.build import count_plan

    first = next(iter(seconds.values()))
    rows = []
    for name, times in seconds.items():
        median = statistics.median(times)
        rate = plans[name].by_step.tokens(0) / median
        flops = count_plan(plans[name]).flops_per_token
        quartiles = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else [median] * 3
        rows.append({
            "name": name, "step_s": median, "quartiles_s": [quartiles[0], quartiles[2]], "tokens_per_second": rate,
            "mfu": rate * flops / here.matmul_peak_flops, "ratio": statistics.median(t / f for t, f in zip(times, first)),
        })  # fmt: skip
    return rows
