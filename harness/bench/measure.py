"""Measures contestants at one shape: milliseconds in turns, bytes kept, error against fp32, equal bits on repeat."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.bench.contestants import Contestant, Prepared
from harness.bench.shapes import Inputs, Shape, inputs, routing
from harness.train.machine import synchronize
from kernels import moe_mlp
from kernels.stages import HEAD_START

WARMUP = 2
LONGEST_S = 2.0  # of a forward and backward: the loop over 4,096 experts takes minutes


class TooSlow(RuntimeError):
    pass


FAILURES = (
    RuntimeError,
    NotImplementedError,
    ValueError,
    TypeError,
    ImportError,
)  # of somebody else's kernels: shown in their row


def measure(
    shape: Shape, everyone: list[Contestant], dtype: torch.dtype, device: str, rounds: int, peak: float
) -> list[dict[str, Any]]:
    """One row a contestant; one that fails has `failed` instead of figures. `peak`: FLOP/s of a large product here."""
    given = inputs(shape, dtype, device)
    expected = None
    rows, ready = [], {}
    for who in everyone:
        row: dict[str, Any] = {"name": who.name, "version": who.version, "is_bound": who.is_bound}
        rows.append(row)
        try:
            prepared = who.prepare(shape, given)
            for _ in range(WARMUP):
                begun = time.perf_counter()
                once(prepared, given.dy_TD)
                synchronize(device)
                took = time.perf_counter() - begun
            if took > LONGEST_S:  # the last call: the first one may have compiled
                raise TooSlow(f"{took:,.1f} s a call: left out of the turns")
            if not who.is_bound:
                expected = expected or reference(shape, given)
                row |= checked(prepared, given, expected)
            ready[who.name] = prepared
        except FAILURES as error:
            row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
    del expected
    seconds = in_turns(ready, shape, given, device, rounds)
    for row in rows:
        if row["name"] in seconds:
            row |= _rates(shape, seconds[row["name"]], peak)
    first = rows[0]
    for row in rows:
        if "forward_ms" in row and "forward_ms" in first:
            row["forward_ratio"] = _ratio(seconds[row["name"]], seconds[first["name"]], 0)
            row["backward_ratio"] = _ratio(seconds[row["name"]], seconds[first["name"]], 1)
    return rows


def once(prepared: Prepared, dy_TD: Tensor) -> tuple[Tensor, list[Tensor]]:
    y = prepared.run()
    return y, list(torch.autograd.grad(y, prepared.leaves, _like(dy_TD, y)))


def _like(dy_TD: Tensor, y: Tensor) -> Tensor:
    """The gradient that comes in: random for an expert MLP, ones for the bound, whose output has another shape."""
    return dy_TD.to(y.dtype) if dy_TD.shape == y.shape else torch.ones_like(y)


def reference(shape: Shape, given: Inputs) -> list[Tensor]:
    """y and the gradients of x, both weights and the routing weights in fp32, from the oracle on the same inputs."""
    leaves = [t.float().detach().requires_grad_() for t in (given.x_TD, given.w_up_EDG, given.w_down_EFD, given.weight_TK)]
    y = moe_mlp(*leaves[:3], given.expert_TK, leaves[3], activation=shape.activation, backend="reference")
    return [y.detach(), *torch.autograd.grad(y, leaves, given.dy_TD.float())]


def checked(prepared: Prepared, given: Inputs, expected: list[Tensor]) -> dict[str, Any]:
    """Errors (RMS, relative), calc_diff, equal bits of two runs, and the bytes that autograd keeps beside the weights."""
    saved = kept_bytes(prepared.run, prepared.leaves[1:3])
    first, again = (once(prepared, given.dy_TD) for _ in range(2))
    equal = all(torch.equal(a, b) for a, b in zip((first[0], *first[1]), (again[0], *again[1])))
    found = [first[0].detach(), *prepared.ours(first[1])]
    names = ("y", "dx", "dw_up", "dw_down", "dweight")
    return {
        "errors": {n: rms_error(a, b) for n, a, b in zip(names, found, expected)},
        "calc_diff": {n: calc_diff(a, b) for n, a, b in zip(names, found, expected)},
        "bit_equal": equal,
        "saved_bytes": saved,
    }


def kept_bytes(run: Callable[[], Tensor], weights: list[Tensor]) -> int:
    """Bytes that autograd keeps of a forward for its backward beside `weights`, every storage once; of tensors without memory
    (`FakeTensorMode`) too."""
    kept: dict[int, Tensor] = {}

    def keep(t: Tensor) -> Tensor:
        kept.setdefault(t.untyped_storage()._cdata, t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        run()
    own = {t.untyped_storage()._cdata for t in weights}
    return sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in own)


def rms_error(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm().clamp(min=1e-30))


def calc_diff(found: Tensor, expected: Tensor) -> float:
    """1 - 2<a,b> / (|a|^2 + |b|^2): a cosine distance that also sees a wrong scale."""
    a, b = found.double(), expected.double()
    return float(1 - 2 * (a * b).sum() / (a.square().sum() + b.square().sum()).clamp(min=1e-300))


def in_turns(
    ready: dict[str, Prepared], shape: Shape, given: Inputs, device: str, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds (forward, backward) of each in each round. Every round routes anew, as every training step does: on a CPU a row
    count that was not met before costs its products a millisecond each."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ready}
    draws = torch.Generator(device).manual_seed(1)
    for _ in range(rounds):
        given.expert_TK.copy_(routing("distinct", shape.T, shape.E, shape.K, draws))
        for name, prepared in ready.items():
            seconds[name].append(once_timed(prepared, given.dy_TD, device))
    return seconds


def once_timed(prepared: Prepared, dy_TD: Tensor, device: str) -> tuple[float, float]:
    """Seconds of the forward and of the backward."""
    if device != "cuda":
        start = time.perf_counter()
        y = prepared.run()
        middle = time.perf_counter()
        torch.autograd.grad(y, prepared.leaves, _like(dy_TD, y))
        return middle - start, time.perf_counter() - middle
    start, middle, begun, end = (torch.cuda.Event(enable_timing=True) for _ in range(4))
    torch.cuda.synchronize()
    torch.cuda._sleep(HEAD_START)
    start.record()
    y = prepared.run()
    middle.record()
    dy = _like(dy_TD, y)
    torch.cuda._sleep(HEAD_START)
    begun.record()
    torch.autograd.grad(y, prepared.leaves, dy)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(middle) / 1e3, begun.elapsed_time(end) / 1e3


def _rates(shape: Shape, seconds: list[tuple[float, float]], peak: float) -> dict[str, float]:
    forward, backward = (statistics.median(column) for column in zip(*seconds))
    rates = shape.forward_flops / forward, 2 * shape.forward_flops / backward
    return {
        "forward_ms": 1e3 * forward, "backward_ms": 1e3 * backward,
        "forward_tflops": rates[0] / 1e12, "backward_tflops": rates[1] / 1e12,
        "forward_share": rates[0] / peak, "backward_share": rates[1] / peak,
    }  # fmt: skip


def _ratio(theirs: list[tuple[float, float]], ours: list[tuple[float, float]], which: int) -> float:
    """The median of the ratios taken round by round: how many times as long as ours."""
    return statistics.median(a[which] / b[which] for a, b in zip(theirs, ours))
