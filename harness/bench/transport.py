"""What it costs to spread a lane's experts over ranks: bytes and time by phase, and what more rows an expert are worth.

Ranks are played in one process (`harness/model/transport/loopback.py`), so one GPU is enough, or none. Every rank has the same
tokens however many there are, which is what the figure is about: an expert then meets the rows of all ranks' tokens, and its
products come nearer to the peak. What stays below it is stranded. Nothing is measured of wires: what they would add is
predicted from bytes and a data sheet's rate, and printed as such. Routing is uniform at random, anew every round, so that skew
is that of chance; a trained router's is on its run's page.

Letters: T tokens of all ranks, K top-k, P ranks, E experts, N = E/P of each.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.bench.exchanged import busiest, exchanged, leaving, per_rank, skew
from harness.bench.kernel_table import arithmetic_of
from harness.bench.layer import whole
from harness.bench.measure import WARMUP
from harness.bench.shapes import Shape, inputs, routing
from harness.bench.table import Table
from harness.errors import UserError
from harness.model.arrangement import outgoing
from harness.model.transport.loopback import Loopback
from harness.plan.schema import Model, Plan
from harness.ranks import Ranks
from harness.train.machine import Machine, memory_available_bytes
from harness.train.memory import GIB
from kernels import Precision
from kernels.stages import EXCHANGE

PHASES = (*EXCHANGE[:2], "products", EXCHANGE[2], "combine", "other")
RANKS, MOST = 4, 64  # whose phases are told, and up to how many the figure goes
TOKENS = {"gpu": 1 << 12, "cpu": 1 << 9, "first": 1 << 12, "toy": 1 << 3}  # of a rank
SHARE = 0.8  # of the memory that is free: what a pass may take
# bytes/s out of a GPU, and as many into it: NVLink 4 of an H100's data sheet (900 GB/s both ways), and a card of 400 Gb/s
LINKS = {"NVLink 4": 450e9, "400 Gb/s": 50e9}
OF_PHASES = Table(16, (
    (11, ",.3f", "forward", "ms"), (11, ",.3f", "backward", "ms"), (9, ".0%", "both", "of all"),
    (14, ",.0f", "forward", "B sent"), (14, ",.0f", "backward", "B sent"), (9, ".0%", "leaves", "the rank"),
))  # fmt: skip
OF_RANKS = Table(8, (
    (9, ",", "experts", "a rank"), (10, ",.1f", "rows an", "expert"), (10, ",.3f", "forward", "TFLOP/s"),
    (10, ",.3f", "backward", "TFLOP/s"), (10, ".0%", "both of", "peak"), (10, ".0%", "products", "of time"),
    (10, ",.0f", "B sent", "a token"), (9, ".0%", "leaves", "the rank"), (8, ".2f", "owners", "skew"),
    (9, ".2f", "experts", "skew"), *((11, ",.4f", name, "pred. ms") for name in LINKS),
))  # fmt: skip


def transport(
    plan: Plan, here: Machine, backend: str, which: str, rounds: int, ranks: int | None, tokens: int | None,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """A row for each number of ranks, with medians over rounds, or why it was left out. `ranks`: whose phases are said in
    particular; `tokens`: of a rank, in place of the set's.

    Raises:
        UserError: a model without experts, or whose experts so many ranks cannot share; a backend that takes no rows alone.
    """
    m, told, tokens = plan.model, ranks or RANKS, tokens or TOKENS[which]
    _check(plan, backend, told, ranks is None)
    shape = Shape(tokens, m.width, m.expert_width, m.num_experts, m.top_k, m.activation)
    powers = {1 << n for n in range(MOST.bit_length())}
    numbers = sorted(number for number in {*powers, told} if m.num_experts % number == 0)
    precision, peak = Precision(arithmetic_of(here)), here.matmul_peak_flops
    say(f"experts of {plan.lane.name} spread: {shape}, tokens of a rank; {backend}, {precision}")
    rows = _rows(shape, numbers, _Layer.of(m, shape, precision, backend, here.device), rounds, peak)
    for row in rows:
        if row["ranks"] == told:
            _say_phases(row, say)
    say(f"\n{OF_RANKS.head('ranks')}")
    for row in rows:
        say(_line(row))
    say(f"matmul peak {peak / 1e12:,.3f} TFLOP/s. pred.: PREDICTED time of what leaves the busiest rank, nothing measured")
    return {
        "lane": plan.lane.name, "shape": vars(shape), "precision": precision.arithmetic.name, "backend": backend,
        "rounds": rounds, "told": told, "links": LINKS, "rows": rows,
    }  # fmt: skip


def _check(plan: Plan, backend: str, ranks: int, usual: bool) -> None:
    experts = plan.model.num_experts
    if not experts:
        raise UserError(f"{plan.lane.name} has no experts to spread", "choose a MoE lane: lane=tiny-moe-16e")
    if backend == "reference":
        raise UserError("kernels.backend=reference takes no rows alone", "leave it: kernels.backend=auto takes what runs here")
    if experts % ranks:
        known = [each for each in range(1, experts + 1) if experts % each == 0]
        raise UserError(
            f"ranks={ranks}{' (the default)' if usual else ''}: {experts} experts cannot be spread equally over them",
            f"choose one of {', '.join(map(str, known))}",
        )


class _Layer(NamedTuple):
    """Weights, which are masters, with operands beside them where a run has them; and who computes."""

    model: Model
    up_EDG: Tensor
    down_EFD: Tensor
    operands: tuple[Tensor, Tensor] | None
    precision: Precision
    backend: str
    device: str

    @classmethod
    def of(cls, model: Model, shape: Shape, precision: Precision, backend: str, device: str) -> "_Layer":
        given = inputs(shape, torch.float32, device)
        up, down = given.w_up_EDG.requires_grad_(), given.w_down_EFD.requires_grad_()
        operands = tuple(w.detach().to(precision.arithmetic.dtype) for w in (up, down)) if device == "cuda" else None
        return cls(model, up, down, operands, precision, backend, device)


class _Played(NamedTuple):
    """So many ranks, played: what all of them read, and the gradient that comes in."""

    ranks: int
    shape: Shape  # of all of their tokens
    x_TD: Tensor
    dy_TD: Tensor
    expert_TK: Tensor
    weight_TK: Tensor

    @classmethod
    def of(cls, ranks: int, one: Shape, dtype: torch.dtype, device: str) -> "_Played":
        shape = replace(one, T=ranks * one.T)
        draws = torch.Generator(device).manual_seed(ranks)
        x_TD, dy_TD = (torch.randn(shape.T, shape.D, generator=draws, device=device) for _ in range(2))
        expert_TK = routing("distinct", shape.T, shape.E, shape.K, draws)
        weight_TK = torch.rand(shape.T, shape.K, generator=draws, device=device).softmax(1)
        return cls(ranks, shape, x_TD.to(dtype).requires_grad_(), dy_TD, expert_TK, weight_TK.requires_grad_())


def _rows(shape: Shape, numbers: list[int], layer: _Layer, rounds: int, peak: float) -> list[dict[str, Any]]:
    """`shape`: of the tokens of one rank."""
    limit, found, ready = SHARE * memory_available_bytes(layer.device), {}, []
    dtype = layer.precision.arithmetic.dtype
    for ranks in numbers:
        rows = ranks * shape.T * shape.K
        found[ranks] = {"ranks": ranks, "experts_a_rank": shape.E // ranks, "rows_an_expert": rows / shape.E}
        taken = _pass_bytes(replace(shape, T=ranks * shape.T), dtype.itemsize)
        if taken > limit:
            found[ranks]["left_out"] = f"a pass takes about {taken / GIB:,.1f} GiB, and {limit / GIB:,.1f} GiB may be used"
            continue
        ready.append(_Played.of(ranks, shape, dtype, layer.device))
        found[ranks] |= _sent(ready[-1])
    seen: dict[int, list[dict[str, dict[str, float]]]] = {each.ranks: [] for each in ready}
    draws = torch.Generator(layer.device).manual_seed(1)
    for turn in range(WARMUP + rounds):
        for each in ready:
            each.expert_TK.copy_(routing("distinct", each.shape.T, shape.E, shape.K, draws))
            took = _once(each, layer)
            if turn >= WARMUP:
                seen[each.ranks].append(took)
    for each in ready:
        found[each.ranks] |= _figures(each, seen[each.ranks], peak)
    return list(found.values())


def _pass_bytes(shape: Shape, size: int) -> int:
    """What a forward and backward takes at most: of every row its input, its output and the gradients of both, pre-activations
    and their gradients, and as much again of what is on its way; weights as masters, operands and gradients; or drawing the
    routing."""
    rows, weights = shape.T * shape.K, shape.E * shape.D * (shape.G + shape.F)
    return max(size * rows * (8 * shape.D + 4 * shape.G), 12 * shape.T * shape.E) + (8 + size) * weights


def _sent(it: _Played) -> dict[str, Any]:
    """Bytes and skew of the first routing, by the counts that its sources have."""
    stretches = it.expert_TK.tensor_split(it.ranks)
    count_PE = torch.stack([outgoing(stretch, it.shape.E).count_E for stretch in stretches]).cpu()
    sent = exchanged(count_PE, it.shape.D, it.x_TD.element_size())
    handed, left = (
        {way: {phase: of_rank(of) for phase, of in phases.items()} for way, phases in sent.items()}
        for of_rank in (per_rank, leaving)
    )
    total, others = (sum(sum(phases.values()) for phases in of.values()) for of in (handed, left))
    return {
        "bytes": handed, "leaving_bytes": left, "sent_a_token": total * it.ranks / it.shape.T, "leaves": others / total,
        "skew": skew(count_PE), "busiest_bytes": busiest(sent),
        "predicted_wire_ms": {name: 1e3 * busiest(sent) / rate for name, rate in LINKS.items()},
    }  # fmt: skip


def _once(it: _Played, layer: _Layer) -> dict[str, dict[str, float]]:
    """Milliseconds by phase, forward and backward, of all ranks together."""
    leaves = (it.x_TD, layer.up_EDG, layer.down_EFD, it.weight_TK)
    played = Loopback(layer.model, None, Ranks(0, it.ranks))
    with whole(layer.device, Phase()) as forward:
        y_TD = played.experts(
            *leaves[:3], it.expert_TK, it.weight_TK, activation=it.shape.activation, backend=layer.backend,
            precision=layer.precision, key_4=None, operands=layer.operands,
        )  # fmt: skip
    with whole(layer.device, Phase()) as backward:
        torch.autograd.grad(y_TD, leaves, it.dy_TD)
    return {"forward": forward, "backward": backward}


class Phase:
    """The phase of a pass that a stage belongs to, asked in the order in which they begin: owners work between dispatch and
    return, and what a backend calls combine there is of its own."""

    def __init__(self):
        self.exchange = ""

    def __call__(self, stage: str) -> str:
        if stage in EXCHANGE:
            self.exchange = stage
            return stage
        return stage if self.exchange == "return" else "products"


def _figures(it: _Played, seen: list[dict[str, dict[str, float]]], peak: float) -> dict[str, Any]:
    """Milliseconds a rank: those of the one process over the ranks that it plays."""
    milliseconds = {
        way: {phase: statistics.median(took[way].get(phase, 0.0) for took in seen) / it.ranks for phase in PHASES}
        for way in ("forward", "backward")
    }
    flops = it.shape.forward_flops / it.ranks
    forward_ms, backward_ms = (of["products"] for of in milliseconds.values())
    both = 3 * flops / (forward_ms + backward_ms) * 1e3
    return {
        "ms": milliseconds, "forward_tflops": flops / forward_ms / 1e9, "backward_tflops": 2 * flops / backward_ms / 1e9,
        "tflops": both / 1e12, "of_peak": both / peak, "stranded": 1 - both / peak,
    }  # fmt: skip


def _say_phases(row: dict[str, Any], say: Callable[[str], None]) -> None:
    if "left_out" in row:
        say(f"{row['ranks']} ranks left out: {row['left_out']}")
        return
    say(OF_PHASES.head(f"{row['ranks']} ranks, each"))
    forward, backward = row["ms"].values()
    total = sum(forward.values()) + sum(backward.values())
    for phase in PHASES:
        sent, left = ([of.get(phase) for of in row[key].values()] for key in ("bytes", "leaving_bytes"))
        leaves = sum(left) / sum(sent) if sent[0] is not None else None
        took = forward[phase], backward[phase]
        say(OF_PHASES.row(f"  {phase}", *took, sum(took) / total, *sent, leaves))


def _line(row: dict[str, Any]) -> str:
    if "left_out" in row:
        return f"  {row['ranks']:<6}left out: {row['left_out']}"
    forward, backward = row["ms"].values()
    share = (forward["products"] + backward["products"]) / (sum(forward.values()) + sum(backward.values()))
    return OF_RANKS.row(
        f"  {row['ranks']}", row["experts_a_rank"], row["rows_an_expert"], row["forward_tflops"], row["backward_tflops"],
        row["of_peak"], share, row["sent_a_token"], row["leaves"], row["skew"]["owners"], row["skew"]["experts"],
        *row["predicted_wire_ms"].values(),
    )  # fmt: skip
