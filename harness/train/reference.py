"""A fixed workload beside which a training step is timed, so that speed can be compared from job to job.

Seconds of a shared machine vary several-fold from one minute to the next; the ratio of a step to plain torch operators timed
in turns with it varies far less. The workload must never follow the harness's own code, so it uses torch alone: per layer two
matrix products, an activation and a norm, forward and backward in fp32, then an elementwise update and a copy of every
parameter. Backward and update are in it because the two must suffer alike from a busy neighbour: when three busy processes
joined, a micro lane's ratio to bare products rose by 33%, to this workload (with four times the products) by 7%: one
measurement of each.
A change here is a new `VERSION`: ratios of different versions are not compared.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch.nn.functional import layer_norm

from harness.plan.schema import Plan
from harness.train.machine import synchronize

VERSION = 1
PAIRS = 2  # of products per planned layer: on a tiny lane a pass has about as many FLOPs as a step
BLOCK_S = 0.02  # one timed block lasts at least this long, so that the clock's own cost does not show
MIN_ROUNDS = 9  # a round is a block of steps and a block of the workload, in turns; a tiny step takes a second on AVX2
ERROR, MAX_S = 0.015, 15.0  # rounds go on until the median's standard error is this small, or this long
MEDIAN_ERROR = 0.93  # of a normal sample: its median's standard error is 0.93 x interquartile range / sqrt(n)
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
    taken: float | None = None  # of the processor time by others meanwhile; None where it is not known

    def as_record(self) -> dict[str, object]:
        return asdict(self)


def reference(plan: Plan, device: torch.device) -> Callable[[], None]:
    """One pass of the workload, sized by the tokens of the plan's first step, width, layers and active FFN width."""
    tokens, width = plan.by_step.tokens(0), plan.model.width
    inner = max(plan.model.ffn_width, plan.model.expert_width * plan.model.top_k, width)
    pairs = range(PAIRS * plan.model.layers)
    x_TD = torch.ones(tokens, width, device=device)
    up = [torch.full((width, inner), 1 / width, device=device, requires_grad=True) for _ in pairs]
    down = [torch.full((inner, width), 1 / inner, device=device, requires_grad=True) for _ in pairs]

    def run() -> None:
        y_TD = x_TD
        for up_DF, down_FD in zip(up, down):
            y_TD = layer_norm(y_TD + torch.relu(y_TD @ up_DF).square() @ down_FD, (width,))
        y_TD.sum().backward()
        with torch.no_grad():
            for p in (*up, *down):
                p.copy_(0.999 * p + 0.0 * p.grad)
                p.grad = None

    return run


def against_reference(
    step: Callable[[], None], workload: Callable[[], None], device: str, taken: Callable[[], float | None] = lambda: None
) -> Timing:
    """Times both in turns until their ratio is known well enough, or MAX_S is over and MIN_ROUNDS are done. `taken`: tells
    afterwards what others took of the processor time."""
    for _ in range(WARM_ROUNDS):
        _seconds(step, 1, device)
        _seconds(workload, 1, device)
    steps, passes = _repeats(step, device), _repeats(workload, device)
    rounds: list[tuple[float, float]] = []
    begun = time.perf_counter()
    ratios: list[float] = []
    while len(rounds) < MIN_ROUNDS or (_error(ratios) > ERROR and time.perf_counter() - begun < MAX_S):
        rounds.append((_seconds(step, steps, device), _seconds(workload, passes, device)))
        ratios.append(rounds[-1][0] / rounds[-1][1])
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    step_s, reference_s = (statistics.median(column) for column in zip(*rounds))
    return Timing(VERSION, step_s, reference_s, statistics.median(ratios), (low, high), len(rounds), taken())


def _error(ratios: list[float]) -> float:
    """Relative standard error of the median."""
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return MEDIAN_ERROR * (high - low) / middle / len(ratios) ** 0.5


def _repeats(work: Callable[[], None], device: str) -> int:
    return max(1, round(BLOCK_S / min(_seconds(work, 1, device) for _ in range(3))))


def _seconds(work: Callable[[], None], repeats: int, device: str) -> float:
    """How long one repeat takes."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / repeats
