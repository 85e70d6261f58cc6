"""Whether a backend is right on this device: edge cases against the fp32 oracle, equal bits on repeat, batch invariance.

Letters as in `harness.bench.shapes`. The bounds are those of the tests: fp32 1e-5 in every case; bf16, on the same bf16 inputs,
5e-3 RMS and 1e-5 in calc_diff over all cases together, because a handful of elements has no RMS to speak of.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.bench.measure import calc_diff, reference, rms_error
from harness.bench.shapes import SETS, Inputs, Shape, inputs
from harness.bench.table import Table
from kernels import Arithmetic, Precision, moe_mlp

# tokens, width, expert width, experts, top-k, routing
EDGES = {
    "one token": (1, 16, 16, 4, 2, "distinct"),
    "odd sizes": (37, 19, 13, 5, 3, "distinct"),
    "more rows than a tile": (70, 40, 36, 3, 2, "distinct"),
    "empty experts": (33, 32, 16, 6, 2, "two experts"),
    "all rows on one expert": (40, 32, 16, 4, 1, "one expert"),
    "top-k of one": (20, 16, 16, 4, 1, "distinct"),
    "every expert for every token": (12, 16, 16, 4, 4, "distinct"),
    "an expert listed twice": (9, 16, 16, 4, 2, "duplicates"),
    "more experts than rows": (3, 16, 16, 64, 2, "distinct"),
}
FEW = ("odd sizes", "empty experts", "all rows on one expert", "more experts than rows")
TABLE = Table(48, ((12, ".1e", "worst error"), (11, ".1e", "calc_diff"), (0, "", "  same bits  batch-invariant"), (0, "", "")))
BOUNDS = {"full": (1e-5, 1e-9), "native": (5e-3, 1e-5)}
NAMES = ("y", "dx", "dw_up", "dw_down", "dweight")


def correctness(
    device: str, backend: str, arithmetics: tuple[str, ...], which: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """One row an edge case, activation and arithmetic, and one over all cases; `passed` is whether all of them hold. Of the set
    `first` a few cases in the last arithmetic alone, and its shapes beside them; what they need is compiled side by side."""
    say(TABLE.head(f"backend {backend} on {device}"))
    rows, edges = [], EDGES
    if which == "first":
        edges = {name: EDGES[name] for name in FEW}
        edges |= {str(it): (it.T, it.D, it.F, it.E, it.K, "distinct") for it in SETS["first"]}
        arithmetics = arithmetics[-1:]
        if backend == "triton":
            _compiled_first(edges, device, arithmetics)
    for arithmetic in arithmetics:
        for activation in ("relu2", "swiglu"):
            pairs: list[list[tuple[Tensor, Tensor]]] = [[] for _ in NAMES]
            for name, (*numbers, kind) in edges.items():
                row, results = _case(Shape(*numbers, activation), kind, device, backend, arithmetic)
                rows.append({"case": f"{name}, {activation}, {arithmetic}"} | row)
                say(_line(rows[-1]))
                for output, pair in zip(pairs, results):
                    output.append(pair)
            rows.append({"case": f"all together, {activation}, {arithmetic}"} | _together(pairs, arithmetic))
            say(_line(rows[-1]))
    failed = sum(not row["passed"] for row in rows)
    say(f"{len(rows) - failed} of {len(rows)} hold")
    return {"rows": rows, "passed": not failed}


def _compiled_first(edges: dict[str, tuple], device: str, arithmetics: tuple[str, ...]) -> None:
    from kernels.triton.compiling import compiling

    with compiling():
        for arithmetic in arithmetics:
            for activation in ("relu2", "swiglu"):
                for *numbers, kind in edges.values():
                    given = inputs(Shape(*numbers, activation), Arithmetic.of(arithmetic).dtype, device, kind=kind)
                    run(given, activation, "triton", arithmetic)


def _line(row: dict[str, Any]) -> str:
    bits = f"{row['same_bits']!s:<9}  {row['invariant']!s:<5}" if "same_bits" in row else ""
    return TABLE.row(row["case"], row["error"], row["calc_diff"], f"  {bits:<16}", "" if row["passed"] else "  FAILED")


def _case(
    shape: Shape, kind: str, device: str, backend: str, arithmetic: str
) -> tuple[dict[str, Any], list[tuple[Tensor, Tensor]]]:
    """The row of one edge case, and (found, expected) of each output."""
    given = inputs(shape, Arithmetic.of(arithmetic).dtype, device, kind=kind)
    first, again = (run(given, shape.activation, backend, arithmetic) for _ in range(2))
    expected = reference(shape, given)
    same = all(torch.equal(a, b) for a, b in zip(first, again))
    invariant = _invariant(given, first, shape.activation, backend, arithmetic)
    # inputs are of unit size: one unit is the floor under sums that cancel
    error = max(rms_error(a, b) * min(1.0, float(b.norm())) for a, b in zip(first, expected))
    row = {"error": error, "calc_diff": max(map(calc_diff, first, expected)), "same_bits": same, "invariant": invariant}
    return row | {"passed": same and invariant and (arithmetic != "full" or error <= BOUNDS["full"][0])}, list(
        zip(first, expected)
    )


def _together(pairs: list[list[tuple[Tensor, Tensor]]], arithmetic: str) -> dict[str, Any]:
    flat = [tuple(torch.cat([t.float().flatten() for t in side]) for side in zip(*output)) for output in pairs]
    error, diff = max(rms_error(a, b) for a, b in flat), max(calc_diff(a, b) for a, b in flat)
    error_bound, diff_bound = BOUNDS[arithmetic]
    return {"error": error, "calc_diff": diff, "passed": error <= error_bound and diff < diff_bound}


def run(given: Inputs, activation: str, backend: str, arithmetic: str) -> list[Tensor]:
    """y and the gradients of x, both weights and the routing weights."""
    leaves = [t.detach().requires_grad_() for t in (given.x_TD, given.w_up_EDG, given.w_down_EFD, given.weight_TK)]
    options = {"activation": activation, "backend": backend, "precision": Precision.of(arithmetic), "debug": True}
    y_TD = moe_mlp(*leaves[:3], given.expert_TK, leaves[3], **options)
    return [y_TD.detach(), *torch.autograd.grad(y_TD, leaves, given.dy_TD.to(y_TD.dtype))]


def _invariant(given: Inputs, whole: list[Tensor], activation: str, backend: str, arithmetic: str) -> bool:
    """Whether the last token alone has the bits it has in the batch: y and dx."""
    alone = {name: getattr(given, name)[-1:] for name in ("x_TD", "expert_TK", "weight_TK", "dy_TD")}
    part = run(replace(given, **alone), activation, backend, arithmetic)
    return torch.equal(part[0], whole[0][-1:]) and torch.equal(part[1], whole[1][-1:])
