"""What `make plan` says of memory, part by part, against what a step of a small lane allocates."""

from itertools import accumulate

import pytest
import torch

from harness.data.corpora import load_for
from harness.plan.compose import compose
from harness.ranks import Ranks
from harness.train import machine
from harness.train.memory import memory
from harness.train.session import Session

# Compiling takes longer than all else here: parts are as large as the wide plan's whole step, whose compilations they share.
SMALL = "unranked=true batch.tokens_per_step=1024 budget.tokens=65536 run.mlflow=off model.layers=2".split()
WIDE = ["lane=tiny-moe-16e", *SMALL, "model.width=512", "model.num_experts=8"]
PLANS = {
    "wide": WIDE,
    "in parts": [*WIDE, "batch.tokens_per_step=4096", "parallel.micro_batch_tokens=1024"],
    # Of what the streams keep 10 rounds between 8 of them are the same share as 20 between 4, and half as much is unrolled.
    "streams": ["lane=tiny-dense", *SMALL, "model.residual=hyper", "residual.hyper.streams=8", "residual.hyper.rounds=10"],
    "convolved": ["lane=tiny-moe-16e", *SMALL, "model.memories=[canon,engram]"],
    "looked up in both layers": ["lane=tiny-moe-16e", *SMALL, "model.memories=[canon,engram]", "memory.engram.layers=[0,1]"],
}


def allocated(work) -> tuple[int, int]:
    """The most that was held at a time, and what is left at the end, beside what was there before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = list(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))
    return max(held, default=0), held[-1] if held else 0


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_parts_are_what_a_step_allocates(name):
    plan = compose(PLANS[name]).plan
    here = machine.detect(plan)
    session = Session(plan, here, Ranks(0, 1), load_for(plan))
    session.step(0)
    found = memory(plan, here)
    assert found.weights == 4 * session.counts.params_total == found.gradients
    state = sum(t.numel() * t.element_size() for t in session.optimizer.state().values())
    assert found.moments == pytest.approx(state, rel=0.01)
    peak, _ = allocated(lambda: session.step(1))
    expected = found.held - found.weights - found.moments  # which were there before
    assert 0.8 * expected < peak < 1.2 * expected, (peak, expected, str(found))
