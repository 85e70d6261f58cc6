"""A fixed workload beside which a training step is timed, so that speed can be compared from job to job.

Seconds of a shared machine vary by half from one hour to the next; the ratio of a step to plain torch operators timed in
turns with it varies far less. The workload must never follow the harness's own code, so it uses torch alone: per layer two
matrix products, an elementwise pass and a copy, in fp32, sized by the plan. A change here is a new `VERSION`: ratios of
different versions are not compared.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from harness.plan.schema import Plan
from harness.train.machine import synchronize

VERSION = 1
BLOCK_S = 0.02  # one timed block lasts at least this long, so that the clock's own cost does not show
MIN_ROUNDS, MIN_S = 25, 3.0  # a round is a block of steps and a block of the workload, in turns
WARM_ROUNDS = 2  # thrown away: they compile, and fill the caches


@dataclass(frozen=True)
class Timing:
    """Seconds of a step and of one pass of the workload (medians over rounds), and their ratio, the median of the rounds'."""

    version: int
    step_s: float
    reference_s: float
    ratio: float
    quartiles: tuple[float, float]  # of the rounds' ratios
    rounds: int

    def as_record(self) -> dict[str, object]:
        return asdict(self)


def reference(plan: Plan, device: torch.device) -> Callable[[], None]:
    """One pass of the workload: about as many floating-point operations as the forward pass of the planned layers."""
    tokens, width = plan.batch.tokens_per_step, plan.model.width
    inner = max(plan.model.ffn_width, plan.model.expert_width * plan.model.top_k, width)
    x_TD = torch.ones(tokens, width, device=device)
    up_DF = torch.full((width, inner), 1 / width, device=device)
    down_FD = torch.full((inner, width), 1 / inner, device=device)

    def run() -> None:
        with torch.no_grad():
            y_TD = x_TD
            for _ in range(plan.model.layers):
                y_TD = (torch.relu(y_TD @ up_DF) @ down_FD).clone()

    return run


def against_reference(step: Callable[[], None], workload: Callable[[], None], device: str) -> Timing:
    """Times both in turns until MIN_ROUNDS and MIN_S have passed."""
    for _ in range(WARM_ROUNDS):
        _seconds(step, 1, device)
        _seconds(workload, 1, device)
    steps, passes = _repeats(step, device), _repeats(workload, device)
    rounds: list[tuple[float, float]] = []
    begun = time.perf_counter()
    while len(rounds) < MIN_ROUNDS or time.perf_counter() - begun < MIN_S:
        rounds.append((_seconds(step, steps, device), _seconds(workload, passes, device)))
    ratios = [a / b for a, b in rounds]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    step_s, reference_s = (statistics.median(column) for column in zip(*rounds))
    return Timing(VERSION, step_s, reference_s, statistics.median(ratios), (low, high), len(rounds))


def _repeats(work: Callable[[], None], device: str) -> int:
    return max(1, round(BLOCK_S / min(_seconds(work, 1, device) for _ in range(3))))


def _seconds(work: Callable[[], None], repeats: int, device: str) -> float:
    """Of one repeat."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / repeats
