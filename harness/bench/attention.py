"""Causal attention, forward and backward, by every backend that runs here, in turns, beside what its FLOPs take at the peak.

Letters as in `kernels.attention`. FLOPs are those of the causal half: two products forward and twice as many backward; what a
backward computes again is not counted.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.bench.kernel_table import arithmetic_of
from harness.bench.measure import WARMUP, rms_error
from harness.bench.table import Table
from harness.train.machine import Machine, synchronize
from kernels import causal_attention
from kernels.cpu.brgemm import library

SHAPES = {  # B, S, H, A
    "gpu": ((16, 2048, 12, 64), (4, 8192, 12, 64)), "first": ((16, 2048, 8, 64),),
    "cpu": ((16, 256, 4, 64), (4, 1024, 4, 64), (2, 2048, 4, 64)),
    "toy": ((2, 64, 2, 32),),
}  # fmt: skip
TABLE = Table(24, ((10, ",.2f", "forward", "ms"), (10, ",.2f", "backward", "ms"), (10, ".2f", "both", "x floor"),
                   (11, ".1e", "error", "output"), (11, ".1e", "", "gradients")))  # fmt: skip


def attention(here: Machine, which: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Medians over rounds; errors are RMS, relative, against fp64."""
    tables = []
    say(TABLE.head("causal attention"))
    for shape in SHAPES[which]:
        batch, length, heads, width = shape
        floor_s = 12 * batch * heads * length * length * width / 2 / here.matmul_peak_flops
        say(f"B {batch}, S {length}, H {heads}, A {width}: floor {1e3 * floor_s:,.2f} ms")
        rows = _rows(here, shape, rounds)
        for row in rows:
            row["floors"] = (row["forward_s"] + row["backward_s"]) / floor_s
            times = (1e3 * row["forward_s"], 1e3 * row["backward_s"])
            say(TABLE.row(f"  {row['name']}", *times, row["floors"], row["errors"][0], max(row["errors"][1:])))
        tables.append({"shape": shape, "floor_s": floor_s, "rows": rows})
    return {"precision": arithmetic_of(here).name, "rounds": rounds, "tables": tables}


def _rows(here: Machine, shape: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    arithmetic, draws = arithmetic_of(here), torch.Generator(here.device).manual_seed(0)
    given = [torch.randn(shape, generator=draws, device=here.device).to(arithmetic.dtype) for _ in range(4)]
    names = ["torch"] if here.device == "cuda" or library.missing() else ["brgemm", "torch"]

    def once(attend: Callable[..., Tensor], dtype: torch.dtype) -> tuple[list[Tensor], float, float]:
        """Output and gradients, and the seconds of either way."""
        *leaves, do_BSHA = (t.detach().to(dtype) for t in given)
        leaves = [leaf.requires_grad_() for leaf in leaves]
        begun = _now(here)
        o_BSHA = attend(*leaves)
        middle = _now(here)
        gradients = torch.autograd.grad(o_BSHA, leaves, do_BSHA)
        return [o_BSHA.detach(), *gradients], middle - begun, _now(here) - middle

    ours = {name: partial(causal_attention, backend=name, arithmetic=arithmetic) for name in names}
    exact, seconds = once(_plain, torch.float64)[0], {name: [] for name in names}
    errors = {name: [rms_error(a, b) for a, b in zip(once(ours[name], arithmetic.dtype)[0], exact)] for name in names}
    for turn in range(WARMUP + rounds):
        for name in names:
            _, *took = once(ours[name], arithmetic.dtype)
            if turn >= WARMUP:
                seconds[name].append(took)
    return [
        {"name": name, "errors": errors[name]}
        | {f"{way}_s": statistics.median(column) for way, column in zip(("forward", "backward"), zip(*seconds[name]))}
        for name in names
    ]


def _plain(q_BSHA: Tensor, k_BSHA: Tensor, v_BSHA: Tensor) -> Tensor:
    q, k, v = (t.transpose(1, 2) for t in (q_BSHA, k_BSHA, v_BSHA))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return (scores.masked_fill(later, -torch.inf).softmax(-1) @ v).transpose(1, 2)


def _now(here: Machine) -> float:
    synchronize(here.device)
    return time.perf_counter()
