"""Where the time of one expert MLP goes, stage by stage: ours alone, forward and backward."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.bench.kernel_table import arithmetic_of
from harness.bench.measure import WARMUP
from harness.bench.shapes import SETS, inputs
from harness.bench.table import Table
from harness.train.machine import Machine, synchronize
from kernels import Precision, moe_mlp
from kernels.stages import STAGES, timed


def breakdown(here: Machine, backend: str, which: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds of each stage at the shapes of set `which`: medians over rounds, forward and backward."""
    precision, tables = Precision(arithmetic_of(here)), []
    table = Table(46, ((10, "", ""), *((11, ",.2f", name) for name in STAGES), (9, ",.2f", "other")))
    say(table.head("stages of a layer, ms"))
    for shape in SETS[which]:
        given = inputs(shape, precision.arithmetic.dtype, here.device)
        leaves = [t.detach().requires_grad_() for t in (given.x_TD, given.w_up_EDG, given.w_down_EFD, given.weight_TK)]
        seen: dict[str, list[dict[str, float]]] = {"forward": [], "backward": []}
        for _ in range(WARMUP + rounds):
            with whole(here.device) as forward:
                y = moe_mlp(
                    *leaves[:3], given.expert_TK, leaves[3], activation=shape.activation, backend=backend, precision=precision
                )
            dy = given.dy_TD.to(y.dtype)
            with whole(here.device) as backward:
                torch.autograd.grad(y, leaves, dy)
            seen["forward"].append(forward)
            seen["backward"].append(backward)
        parts = {way: _medians(rounds_seen[WARMUP:]) for way, rounds_seen in seen.items()}
        for way, stages in parts.items():
            say(table.row(str(shape), way, *map(stages.get, STAGES), stages["other"]))
        tables.append({"shape": vars(shape) | {"activation": shape.activation}, "stages_ms": parts})
    return {"precision": str(precision), "backend": backend, "rounds": rounds, "tables": tables}


@contextmanager
def whole(device: str, named: Callable[[str], str] = str) -> Iterator[dict[str, float]]:
    """Milliseconds of the stages inside, and of what lies between them (`other`: casts, autograd, launches). `named`: as in
    `kernels.stages.timed`."""
    synchronize(device)
    start = time.perf_counter()
    with timed(device, named) as milliseconds:
        yield milliseconds
        synchronize(device)
        whole = 1e3 * (time.perf_counter() - start)
    milliseconds["other"] = max(0.0, whole - sum(milliseconds.values()))


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
