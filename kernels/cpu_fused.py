"""The expert MLP on a CPU with native bf16: the same products as `kernels.cpu`, everything between them fused by torch.compile.

Letters as in `kernels.routing`. On two AMX cores a layer of `tiny-moe-16e` (16,880 slots of 128) spent 1.5 ms on the activation
forward and 4.1 ms backward as separate operators, 0.3 and 0.6 ms fused. One pass over all slots replaces sixteen over the
segments, so what lies between the products is written once to memory instead of staying in cache.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch._dynamo
from torch import Tensor

from kernels.activation import Activation
from kernels.cpu import empty_gradient, slot_weights
from kernels.rounding import Arithmetic
from kernels.routing import Segments
from kernels.stages import stage

MOST_COMPILATIONS = 256


def forward(
    x_TD: Tensor,
    w_up_EDG: Tensor,
    w_down_EFD: Tensor,
    weight_TK: Tensor,
    segments: Segments,
    activation: Activation,
    arithmetic: Arithmetic,
    h_PG: Tensor,
) -> Tensor:
    """As `kernels.cpu.forward`. `x_TD` and the weights are operands already."""
    used = segments.token_P.numel()
    with stage("gather"):
        x_PD = x_TD.index_select(0, segments.token_P)
    with stage("up"):
        for expert, start, end in segments.bounds:
            torch.mm(x_PD[start:end], w_up_EDG[expert], out=h_PG[start:end])
    with stage("activation"):
        activate, _ = _compiled(activation)
        a_PF = activate(h_PG[:used], slot_weights(weight_TK, segments).unsqueeze(-1))
    with stage("down"):
        y_PD = torch.empty_like(x_PD)
        for expert, start, end in segments.bounds:
            torch.mm(a_PF[start:end], w_down_EFD[expert], out=y_PD[start:end])
    with stage("combine"):
        return _gather_sum()(y_PD, segments.slot_TK)


def backward(
    dy_TD: Tensor,
    x_TD: Tensor,
    w_up_EDG: Tensor,
    w_down_EFD: Tensor,
    weight_TK: Tensor,
    segments: Segments,
    activation: Activation,
    arithmetic: Arithmetic,
    h_PG: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `kernels.cpu.backward`."""
    used, dtype = segments.token_P.numel(), h_PG.dtype
    dw_up_EDG, dw_down_EFD = (empty_gradient(w, segments, dtype) for w in (w_up_EDG, w_down_EFD))
    with stage("gather"):
        dy_PD, x_PD = (t.index_select(0, segments.token_P) for t in (dy_TD, x_TD))
    with stage("dH"):
        da_PF = torch.empty(used, w_down_EFD.shape[1], dtype=dtype)
        for expert, start, end in segments.bounds:
            torch.mm(dy_PD[start:end], w_down_EFD[expert].t(), out=da_PF[start:end])
    with stage("activation"):
        _, activate_backward = _compiled(activation)
        dweight_P, a_PF, dh_PG = activate_backward(h_PG[:used], da_PF, slot_weights(weight_TK, segments).unsqueeze(-1))
    with stage("dW"):
        for expert, start, end in segments.bounds:
            torch.mm(a_PF[start:end].t(), dy_PD[start:end], out=dw_down_EFD[expert])
            torch.mm(x_PD[start:end].t(), dh_PG[start:end], out=dw_up_EDG[expert])
    with stage("dX"):
        dx_PD = torch.empty_like(dy_PD)
        for expert, start, end in segments.bounds:
            torch.mm(dh_PG[start:end], w_up_EDG[expert].t(), out=dx_PD[start:end])
    with stage("combine"):
        dx_TD = _gather_sum()(dx_PD, segments.slot_TK)
    dweight_TK = dweight_P.index_select(0, segments.slot_TK.view(-1)).view_as(segments.slot_TK)
    return dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK


@cache
def _compiled(activation: Activation) -> tuple[Callable[..., Tensor], Callable[..., tuple[Tensor, Tensor, Tensor]]]:
    """The activation between the products, forward and backward. The number of slots stays symbolic: one compilation each."""
    activate, activate_backward = between_products(activation)
    return with_any_length(activate), with_any_length(activate_backward)


def between_products(activation: Activation) -> tuple[Callable[..., Tensor], Callable[..., tuple[Tensor, Tensor, Tensor]]]:
    """(h_PG, weight_P1) -> weight * act(h), and (h_PG, da_PF, weight_P1) -> dweight_P, weight * act(h), dh_PG; uncompiled."""

    def activate(h_PG: Tensor, weight_P1: Tensor) -> Tensor:
        return (activation.forward(h_PG.float()) * weight_P1).to(h_PG.dtype)

    def activate_backward(h_PG: Tensor, da_PF: Tensor, weight_P1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        da_PF = da_PF.float()
        a_PF, dh_PG = activation.backward(h_PG.float(), da_PF)
        return (da_PF * a_PF).sum(-1), (a_PF * weight_P1).to(h_PG.dtype), (dh_PG * weight_P1).to(h_PG.dtype)

    return activate, activate_backward


@cache
def _gather_sum() -> Callable[[Tensor, Tensor], Tensor]:
    def combine(rows_PD: Tensor, slot_TK: Tensor) -> Tensor:
        """As `kernels.cpu.gather_sum`: fp32, in the order of k."""
        out_TD = rows_PD[slot_TK[:, 0]].float()
        for k in range(1, slot_TK.shape[1]):
            out_TD = out_TD + rows_PD[slot_TK[:, k]].float()
        return out_TD

    return with_any_length(combine)


def with_any_length(function: Callable) -> Callable:
    """`function` compiled, with the first dimension of every argument symbolic.

    Every width and top-k is a compilation of its own. Past its limit of them (8) torch.compile would quietly run the function
    uncompiled, and a layer's bits would depend on what the process has computed before.
    """
    compiled = torch.compile(function, fullgraph=True)

    def run(*tensors: Tensor):
        for tensor in tensors:
            if tensor.ndim:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        with torch._dynamo.config.patch(recompile_limit=MOST_COMPILATIONS):
            return compiled(*tensors)

    return run
