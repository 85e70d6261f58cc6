"""A lane and its twin, step by step in turns, without torch.profiler and with it."""

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.profiler import ProfilerActivity, profile, record_function

from harness.bench.profile.events import STEP, Spent, spent
from harness.bench.profile.floors import floors
from harness.bench.profile.parts import DENSE, EXPERTS, HOST, ROUTER, Products, order
from harness.bench.profile.scopes import mark, stages
from harness.bench.profile.text import lines
from harness.bench.steps import WARMUP, on_tokens, session, twin_of
from harness.model.init import owned
from harness.plan.compose import compose
from harness.train.machine import Machine, synchronize

if TYPE_CHECKING:
    from harness.train.session import Session

SHOWN = 12  # operators of a part that are kept


def profiled(words: list[str], here: Machine, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds of the parts of a step, of the lane that `words` name and override, and of its twin."""
    with on_tokens(words) as known, _named_kernels(here):
        ours = compose(known).plan
        plans = (ours, twin_of(ours, known))
        contestants = {plan.lane.name: _Contestant(session(plan, here), here) for plan in plans}
        for step in range(rounds + WARMUP):
            for with_profiler in (False, True):
                for one in contestants.values():
                    one.step(2 * step + with_profiler, with_profiler, kept=step >= WARMUP)
        here = here.measured_again()  # what disturbs one look at the peaks seldom disturbs the next
        both = [one.found(name, here) for name, one in contestants.items()]
    found = {
        "rounds": rounds,
        "hardware": here.as_record(),
        "parts": order(row["part"] for one in both for row in one["parts"]),
        "steps": both,
    }
    for line in lines(here.as_record(), here.execution("bf16"), found):
        say(line)
    return found


@contextmanager
def _named_kernels(here: Machine):
    """Has Inductor's kernels on a CPU report themselves, in what is compiled within."""
    if not here.compiled:
        yield
        return
    import torch._inductor.config  # takes a second

    with torch._inductor.config.patch("cpp.enable_kernel_profile", True):
        yield


class _Contestant:
    def __init__(self, built: "Session", here: Machine):
        mark(built)
        self.session, self.device = built, here.device
        self.products = _products(built)
        self.plain_s: list[float] = []
        self.spent: list[Spent] = []

    def step(self, index: int, with_profiler: bool, kept: bool) -> None:
        if with_profiler:
            found = self._watched(index)
            self.spent += [found] if kept else []
            return
        start = time.perf_counter()
        self._whole(index)
        self.plain_s += [time.perf_counter() - start] if kept else []

    def _whole(self, index: int) -> None:
        self.session.step(index)
        synchronize(self.device)

    def _watched(self, index: int) -> Spent:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device == "cuda" else [])]
        with profile(activities=activities, record_shapes=True) as seen, stages(), record_function(STEP):
            self._whole(index)
        found = spent(seen.events(), self.products, self.device)
        del seen
        gc.collect()  # some ten thousand events, which the next step would else be stopped for
        return found

    def found(self, name: str, here: Machine) -> dict[str, Any]:
        """Milliseconds. Of the profiled steps those whose wall time is of the middle half are averaged: their parts add up, as
        medians of parts would not."""
        middle = _middle_half(self.spent)
        wall = 1e-3 * statistics.mean(one.wall for one in middle)
        allowed = floors(self.session, here)
        rows = [
            {"part": part, "ms": 1e-3 * _mean(middle, part), **allowed.get(part, {}), "operators": _operators(middle, part)}
            for part in order([*allowed, HOST, *(part for one in middle for part in one.parts)])
        ]
        return {
            "name": name, "wall_ms": wall, "plain_ms": 1e3 * statistics.median(self.plain_s), "parts": rows,
            "plain_rounds_ms": [1e3 * s for s in self.plain_s], "wall_rounds_ms": [1e-3 * one.wall for one in self.spent],
            "shapes_shared": [list(pair) for pair in self.products.shared()],
        }  # fmt: skip


def _products(built: "Session") -> Products:
    """The experts are among them only where a loop multiplies them, which has no stages."""
    everything_full, loop = built.machine.arithmetic != "native", built.plan.kernels.backend == "reference"
    weights = []
    for _, parameter, _, own in owned(built.model):
        if own.group in ("dense", "router"):
            full = everything_full or own.group == "router"
            weights.append((DENSE if own.group == "dense" else ROUTER, tuple(parameter.shape), full))
        elif own.group == "expert" and loop:
            weights += [(EXPERTS, tuple(parameter.shape), full) for full in (False, True)]
    return Products(weights, built.plan.model.num_experts)


def _middle_half(spent_: list[Spent]) -> list[Spent]:
    left_out = len(spent_) // 4
    return sorted(spent_, key=lambda one: one.wall)[left_out : len(spent_) - left_out]


def _mean(steps: list[Spent], part: str) -> float:
    return statistics.mean(one.parts.get(part, 0.0) for one in steps)


def _operators(steps: list[Spent], part: str) -> dict[str, float]:
    """What took longest in a part, milliseconds of a step by name."""
    total: dict[str, float] = defaultdict(float)
    for one in steps:
        for name, took in one.operators.get(part, {}).items():
            total[name] += 1e-3 * took / len(steps)
    return dict(sorted(total.items(), key=lambda pair: -pair[1])[:SHOWN])
