"""Runs the Triton kernels in Triton's interpreter against the reference and prints what was found as one JSON object.

Its own process (`TRITON_INTERPRET=1` must be set before Triton is imported), run by tests/test_kernels_triton.py. fp32 only:
bf16 arithmetic is wrong in the interpreter.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
import triton.language as tl  # noqa: E402
import triton_interpreter  # noqa: E402, F401
from expert_inputs import ROUTINGS, inputs, relative_error, run  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from triton_shapes import SHAPES  # noqa: E402

from kernels import moe_mlp, router_logits, select_experts  # noqa: E402
from kernels.triton.products import rows_kernel, up_kernel  # noqa: E402
from kernels.triton.weight_gradients import weight_gradient_kernel  # noqa: E402

BACKENDS = ("triton", "reference")
NAMES = ("y", "dx", "dw_up", "dw_down", "dweight")


def errors(name: str, activation: str) -> dict[str, object]:
    tokens, width, *rest, kind = SHAPES[name]
    tensors = inputs(tokens, width, *rest, activation, kind)
    dy_TD = torch.randn(tokens, width, generator=torch.Generator().manual_seed(1))
    found, again = (run(tensors, dy_TD, activation=activation, backend="triton") for _ in range(2))
    expected = run(tensors, dy_TD, activation=activation, backend="reference")
    return {
        "errors": {n: relative_error(a, b) for n, a, b in zip(NAMES, found, expected)},
        "same bits": all(torch.equal(a, b) for a, b in zip(found, again)),
    }


def invariance(activation: str) -> bool:
    """Whether a token's y and dx have the same bits alone as among 70."""
    x, w_up, w_down, expert_TK, weight = inputs(70, 40, 24, 4, 2, activation)
    dy_TD = torch.randn(70, 40, generator=torch.Generator().manual_seed(2))
    y_all, dx_all, *_ = run((x, w_up, w_down, expert_TK, weight), dy_TD, activation=activation, backend="triton")
    equal = True
    for chosen in (torch.tensor([3]), torch.arange(69, 20, -2)):
        part = (x[chosen], w_up, w_down, expert_TK[chosen], weight[chosen])
        y, dx, *_ = run(part, dy_TD[chosen], activation=activation, backend="triton")
        equal = equal and torch.equal(y, y_all[chosen]) and torch.equal(dx, dx_all[chosen])
    return equal


def dropped(activation: str) -> dict[str, object]:
    """Rows without an expert: errors against the reference; whether the gradients of their weights are exact zeros."""
    x, w_up, w_down, expert_TK, weight = inputs(40, 24, 16, 4, 2, activation)
    expert_TK = torch.where(torch.arange(80).view(40, 2) % 3 == 0, -1, expert_TK)
    dy_TD = torch.randn(40, 24, generator=torch.Generator().manual_seed(3))
    found, expected = (run((x, w_up, w_down, expert_TK, weight), dy_TD, activation=activation, backend=b) for b in BACKENDS)
    nothing = run((x, w_up, w_down, torch.full_like(expert_TK, -1), weight), dy_TD, activation=activation, backend="triton")
    return {
        "errors": {n: relative_error(a, b) for n, a, b in zip(NAMES, found, expected)},
        "zeros": not found[4][expert_TK < 0].any() and not any(t.any() for t in nothing),
    }


def strided(activation: str) -> bool:
    """Whether a non-contiguous x gives the bits of its contiguous copy."""
    x, *rest = inputs(20, 16, 16, 4, 2, activation)
    wide_TD = torch.stack([x, x + 1], dim=2).flatten(1)[:, ::2]
    dy_TD = torch.ones(20, 16)
    a, b = (run((v, *rest), dy_TD, activation=activation, backend="triton") for v in (x, wide_TD))
    return not wide_TD.is_contiguous() and all(torch.equal(s, t) for s, t in zip(a, b))


@settings(deadline=None, max_examples=30, derandomize=True, database=None)
@given(
    tokens=st.sampled_from([1, 2, 3, 7, 31, 33, 65]), experts=st.integers(1, 6), data=st.data(), kind=st.sampled_from(ROUTINGS),
    activation=st.sampled_from(("relu2", "swiglu")), strided=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def any_shape(tokens, experts, data, kind, activation, strided, seed):
    top_k = data.draw(st.integers(1, experts), label="top_k")
    width, expert_width = data.draw(st.tuples(st.integers(3, 40), st.integers(3, 40)), label="width, expert width")
    x, w_up, w_down, expert_TK, weight = inputs(tokens, width, expert_width, experts, top_k, activation, kind, seed)
    if strided:
        x, w_up, weight = x.t().contiguous().t(), w_up.mT.contiguous().mT, weight.t().contiguous().t()
    tensors, dy_TD = (
        (x, w_up, w_down, expert_TK, weight),
        torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed)),
    )
    found = run(tensors, dy_TD, activation=activation, backend="triton")
    for a, b in zip(found, run(tensors, dy_TD, activation=activation, backend="reference")):
        # inputs are of unit size: one unit is the floor under sums that cancel
        assert a.shape == b.shape and float((a - b).norm()) <= 1e-5 * max(1.0, float(b.norm()))


def on_any_shape() -> str:
    """ "" or the falsifying example that hypothesis found."""
    try:
        any_shape()
    except AssertionError as error:
        return f"{error}\n{getattr(error, '__notes__', '')}"
    return ""


def saved_bytes(activation: str) -> dict[str, int]:
    """What autograd keeps for the backward beside weights and ids, and what it should be: x, the pre-activation, and where each
    row of an expert lies."""
    tokens, width, expert_width, top_k, fan = 50, 24, 16, 2, 1 + (activation == "swiglu")
    x, w_up, w_down, expert_TK, weight = inputs(tokens, width, expert_width, 4, top_k, activation)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        moe_mlp(
            x.requires_grad_(), w_up.requires_grad_(), w_down.requires_grad_(), expert_TK, weight.requires_grad_(),
            activation=activation, backend="triton",
        )  # fmt: skip
    others = {t.data_ptr() for t in (w_up, w_down, expert_TK, weight)}
    found = sum(t.numel() * t.element_size() for pointer, t in kept.items() if pointer not in others)
    return {"found": found, "expected": 4 * tokens * (width + top_k * expert_width * fan) + 8 * (2 * tokens * top_k + 4 + 1)}


def selection() -> dict[str, bool]:
    """Whether the kernel chooses what sorted keys choose, with the bits of gathered scores, and its gradient is theirs."""
    from harness.model.routing import top_k_lower_id

    found, draws = {}, torch.Generator().manual_seed(0)
    for tokens, experts, top_k in ((1, 1, 1), (7, 5, 3), (33, 4, 4), (300, 64, 6), (2, 300, 17)):
        score_TE = torch.randn(tokens, experts, generator=draws).sigmoid().requires_grad_()
        selection_TE = (score_TE.detach() + torch.randn(experts, generator=draws) / 8).round(decimals=1)  # with ties
        selection_TE[0, 0], selection_TE[0, -1] = -0.0, 0.0
        if experts > 1:
            selection_TE[-1, experts // 2] = torch.nan
        dchosen_TK = torch.randn(tokens, top_k, generator=draws)
        expert_TK, chosen_TK, gap_T = select_experts(score_TE, selection_TE, top_k)
        (gradient,) = torch.autograd.grad(chosen_TK, score_TE, dchosen_TK)
        best = top_k_lower_id(selection_TE, min(top_k + 1, experts))
        expected = score_TE.gather(1, best[:, :top_k])
        wanted = [best[:, :top_k], expected, *torch.autograd.grad(expected, score_TE, dchosen_TK)]
        gap = selection_TE.gather(1, best[:, top_k - 1 : top_k]) - selection_TE.gather(1, best[:, -1:])
        same = [torch.equal(a, b) for a, b in zip((expert_TK, chosen_TK, gradient), wanted)]
        found[f"{tokens}, {experts}, {top_k}"] = all(same) and torch.equal(gap_T.nan_to_num(7.0), gap[:, 0].nan_to_num(7.0))
    return found


def thin_products() -> dict[str, float]:
    """Errors of a router's product and its gradients against fp64; several parts of the inner dimension among them."""
    found, draws = {}, torch.Generator().manual_seed(0)
    for tokens, width, experts in ((1, 1, 1), (37, 96, 5), (130, 70, 64), (9000, 20, 3)):
        x_TD, w_DE = torch.randn(tokens, width, generator=draws), torch.randn(width, experts, generator=draws)
        dlogit_TE = torch.randn(tokens, experts, generator=draws)
        results = []
        for dtype, multiply in ((torch.float32, router_logits), (torch.float64, torch.matmul)):
            leaves = [t.to(dtype).requires_grad_() for t in (x_TD, w_DE)]
            logit_TE = multiply(*leaves)
            results.append([logit_TE.detach(), *torch.autograd.grad(logit_TE, leaves, dlogit_TE.to(dtype))])
        found |= {f"{tokens}, {width}, {experts}, {n}": relative_error(a, b) for n, a, b in zip(("y", "dx", "dw"), *results)}
    return found


def beyond_two_billion() -> bool:
    """Whether tiles whose elements lie beyond 2^31 are read and written where they should be. What lies before them is mapped
    but never touched."""
    width, rows = 64, 5
    first = 2**31 // width + 3
    x_TD, out_RO = torch.empty(first + rows, width, dtype=torch.float16), torch.empty(first + rows, width, dtype=torch.float16)
    x_TD[first:] = torch.randn(rows, width, generator=torch.Generator().manual_seed(0)).half()
    w_EIO = torch.randn(2, width, width, generator=torch.Generator().manual_seed(1)).half() / 8
    w_EOI = w_EIO.mT
    start_E1, expert_I, row_I = torch.tensor([first, first, first + rows]), torch.tensor([1]), torch.tensor([first])
    options = dict(zip(("STRIDE_E", "STRIDE_O", "STRIDE_I"), w_EOI.stride())) | {"DTYPE": tl.float16, "B": 1, "WIDE": 1}
    options |= dict.fromkeys(("ROWS", "WEIGHTS", "NATIVE", "BY_EXPERT"), False) | {"FORMAT": ""}
    options |= {"BLOCK_R": 16, "BLOCK_N": 32, "BLOCK_K": 32}
    x, w = (x_TD,) * 3, (w_EOI,) * 3  # neither has scales
    rows_kernel[(2,)](*x, *w, out_RO, start_E1, expert_I, row_I, INNER=width, OUTER=width, **options)
    expected = x_TD[first:].float() @ w_EIO[1].float()
    moved = torch.allclose(out_RO[first:].float(), expected, rtol=1e-2, atol=1e-2)
    # the gather: rows 0..4 of the last expert are tokens beyond 2^31 / width; the weight gradient reads both sides
    row_R, near = torch.arange(first, first + rows), torch.tensor([0, 0, rows])
    h_RG, a_RF = torch.empty(rows, width, dtype=torch.float16), torch.empty(rows, width, dtype=torch.float16)
    weight_TK = torch.empty(first + rows, 1)
    weight_TK[first:] = 0.5
    up_kernel[(2,)](
        *x, *w, h_RG, a_RF, a_RF, weight_TK, row_R, near, expert_I, torch.tensor([0]), D=width, F=width, K=1,
        GATED=False, BY_ROW=False, STORED=False, ENCODE=False, CLIP=1.0, **options,
    )  # fmt: skip
    gathered = torch.allclose(h_RG.float(), expected, rtol=1e-2, atol=1e-2)
    dw_EIO = torch.empty(2, width, width)
    weight_gradient_kernel[(2 * 2 * 4,)](
        *x, a_RF, a_RF, a_RF, dw_EIO, row_R, near, 0, INPUTS=width, OUTPUTS=width, K=1, GATHER_LEFT=True, FORMAT="",
        DTYPE=tl.float16, B=1, NATIVE=False, BY_EXPERT=False, BLOCK_I=32, BLOCK_O=16, BLOCK_K=16,
    )  # fmt: skip
    return moved and gathered and torch.allclose(dw_EIO[1], x_TD[first:].float().t() @ a_RF.float(), rtol=1e-2, atol=1e-2)


if __name__ == "__main__":
    found = {f"{name}, {act}": errors(name, act) for name in SHAPES for act in ("relu2", "swiglu")}
    found |= {f"{f.__name__}, {act}": f(act) for f in (invariance, strided) for act in ("relu2", "swiglu")}
    found |= {f"dropped, {act}": dropped(act) for act in ("relu2", "swiglu")}
    found |= {f"saved_bytes, {act}": saved_bytes(act) for act in ("relu2", "swiglu")}
    found |= {"on_any_shape": on_any_shape(), "beyond_two_billion": beyond_two_billion(), "selection": selection()}
    found["thin products"] = thin_products()
    print(json.dumps(found))
