"""Times whole training steps side by side in one run: a MoE lane, its dense twin, and the usual mask-and-loop MoE.

usage: python -m harness bench [lane=tiny-moe-16e] [rounds=9] [key=value ...]
       make bench SET="lane=tiny-moe-16e rounds=15"

The contestants take turns, one step each, so that a noisy machine is noisy for all of them; the table gives medians and the
median of the ratios taken round by round. "mask and loop" is the same model with the expert MLP in plain PyTorch as most
code bases write it: for each expert, where() over the routing, gather, two products, index_add. Written to bench.json too.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from harness.errors import UserError

# Overrides of the MoE lane that would turn its dense twin into a MoE model too.
EXPERTS_ONLY = ("num_experts", "expert_width", "top_k", "shared_experts", "leading_dense_layers", "router")
EXPERTS_ONLY = tuple(f"model.{name}" for name in EXPERTS_ONLY)
SUMMARY = "whole steps side by side: the lane, its twin, and the mask-and-loop MoE"


def main(arguments: list[str]) -> int:
    from harness.plan.compose import compose
    from harness.train import machine
    from harness.train.determinism import set_torch

    rounds = next((word.split("=")[1] for word in arguments if word.startswith("rounds=")), "9")
    if not rounds.isdigit() or int(rounds) < 1:
        raise UserError(f"rounds={rounds}", "rounds must be a whole number of at least 1")
    words = [word for word in arguments if not word.startswith("rounds=")]
    ours = compose(words)
    if not ours.plan.model.num_experts:
        raise UserError(f"{ours.plan.lane.name} has no experts to compare", "choose a MoE lane: lane=tiny-moe-16e")
    set_torch()
    here = machine.detect(ours.plan)
    shared = [word for word in words if word.split("=")[0] not in ("lane", "balance", *EXPERTS_ONLY)]
    plans = {
        ours.plan.lane.name: ours.plan,
        "mask and loop": compose([*words, "kernels.backend=reference"]).plan,
        ours.plan.lane.twin: compose([f"lane={ours.plan.lane.twin}", *shared]).plan,
    }
    seconds = _interleaved({name: _session(plan, here) for name, plan in plans.items()}, int(rounds), here.device)
    rows = _rows(plans, seconds, here)
    peak = f"matmul peak {here.matmul_peak_flops / 1e9:,.0f} GFLOP/s"
    print(f"{here.model}, {here.isa}, {here.threads} threads, bf16 {here.execution}, {peak}")
    print(
        f"{'':<18}{'ms/step':>9}{'tokens/s':>11}{'MFU':>6}{'speed-up of ' + ours.plan.lane.name:>30}   spread (quartiles, ms)"
    )
    for row in rows:
        low, high = (1e3 * q for q in row["quartiles_s"])
        print(f"{row['name']:<18}{1e3 * row['step_s']:>9,.0f}{row['tokens_per_second']:>11,.0f}{row['mfu']:>6.0%}"
              f"{row['ratio']:>29.2f}x   {low:,.0f} to {high:,.0f}")  # fmt: skip
    out = Path(ours.plan.run.folder) / "bench.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"hardware_class": here.hardware_class, "rounds": int(rounds), "rows": rows}, indent=1))
    print(f"written to {out}")
    return 0


def _session(plan, here):
    from harness.data.corpus import load_for
    from harness.train.parallel import Ranks
    from harness.train.session import Session

    session = Session(plan, here, Ranks(0, 1), load_for(plan))
    session.prepare_products()
    return session


def _interleaved(sessions: dict[str, Any], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; two rounds of warm-up (compilation) are thrown away."""
    import time

    from harness.train.machine import synchronize

    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for step in range(rounds + 2):
        for name, session in sessions.items():
            synchronize(device)
            start = time.perf_counter()
            session.step(step)
            synchronize(device)
            if step >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _rows(plans: dict[str, Any], seconds: dict[str, list[float]], here) -> list[dict[str, Any]]:
    from harness.train.session import count_plan

    first = next(iter(seconds.values()))
    rows = []
    for name, times in seconds.items():
        median = statistics.median(times)
        rate = plans[name].batch.tokens_per_step / median
        flops = count_plan(plans[name]).flops_per_token
        quartiles = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else [median] * 3
        rows.append({
            "name": name, "step_s": median, "quartiles_s": [quartiles[0], quartiles[2]], "tokens_per_second": rate,
            "mfu": rate * flops / here.matmul_peak_flops, "ratio": statistics.median(t / f for t, f in zip(times, first)),
        })  # fmt: skip
    return rows
