"""The expert MLP on a CPU below bf16: the flow of `kernels.cpu_fused`, its products over quantized operands.

Letters as in `kernels.routing` and `kernels.cpu_operands`. Activations and gradients enter a quantizer rounded to
bf16, as the bf16 lane multiplies them; weights enter in fp32. Scales of a tensor span all experts of a layer, or one
each (`kernels.precision`). Padding rows are zero in the factors of weight gradients, whose blocks of rows never cross
from one expert to the next."""

from functools import cache

import torch
from torch import Tensor

from kernels.activation import Activation
from kernels.cpu import empty_gradient, gather_sum, slot_weights
from kernels.cpu_fused import between_products
from kernels.cpu_operands import Operand, Quantizer, of_slots
from kernels.hadamard import SIZE
from kernels.precision import Precision
from kernels.routing import Segments
from kernels.stages import stage

_between = cache(between_products)


def forward(
    x_TD: Tensor,
    w_up_EDG: Tensor,
    w_down_EFD: Tensor,
    weight_TK: Tensor,
    segments: Segments,
    activation: Activation,
    precision: Precision,
    h_PG: Tensor,
    key_4: Tensor,
    fused: bool,
) -> Tensor:
    """Fills `h_PG` with the pre-activations; returns y_TD in fp32. `x_TD` is an operand already, the weights are fp32."""
    make = _quantizer(precision, key_4, fused, segments, len(w_up_EDG))
    used = segments.token_P.numel()
    with stage("gather"):
        x = make.rows_of_tokens(x_TD, "input", "input", segments)
    with stage("up"):
        h_PG[:used] = product(make, x, make.weights(w_up_EDG, "weight_up", 1), segments)
    with stage("activation"):
        activate, _ = _between(activation)
        a = make.rows(make.run(activate, h_PG[:used], slot_weights(weight_TK, segments).unsqueeze(-1)), "hidden", "hidden")
    with stage("down"):
        y_PD = product(make, a, make.weights(w_down_EFD, "weight_down", 1), segments)
    with stage("combine"):
        return gather_sum(y_PD, segments.slot_TK)


def backward(
    dy_TD: Tensor,
    x_TD: Tensor,
    w_up_EDG: Tensor,
    w_down_EFD: Tensor,
    weight_TK: Tensor,
    segments: Segments,
    activation: Activation,
    precision: Precision,
    h_PG: Tensor,
    key_4: Tensor,
    fused: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK; of the weights in the dtype of h_PG, else fp32. `dy_TD` and
    `x_TD` are operands already."""
    make = _quantizer(precision, key_4, fused, segments, len(w_up_EDG))
    used = segments.token_P.numel()
    with stage("gather"):
        dy = make.rows_of_tokens(dy_TD, "gradient", "gradient", segments, drawn=True)
    with stage("dH"):
        da_PF = product(make, dy, make.weights(w_down_EFD, "weight_down", 2), segments)
    with stage("activation"):
        _, activate_backward = _between(activation)
        weight_P1 = slot_weights(weight_TK, segments).unsqueeze(-1)
        dweight_P, a_PF, dh_PG = make.run(activate_backward, h_PG[:used], da_PF, weight_P1)
    with stage("dX"):
        dh = make.rows(dh_PG, "gradient", "hidden_gradient", segments.row_P.int())
        dx_PD = product(make, dh, make.weights(w_up_EDG, "weight_up", 2), segments)
    with stage("combine"):
        dx_TD = gather_sum(dx_PD, segments.slot_TK)
    with stage("dW"):
        x_PD, dy_PD = (of_slots(t, segments) for t in (x_TD, dy_TD))
        x, dh = make.columns(x_PD, "wgrad_input"), make.columns(dh_PG, "wgrad_hidden_gradient", drawn=True)
        dw_up_EDG = weight_gradient(make, x, dh, segments, w_up_EDG)
        a, dy = make.columns(a_PF, "wgrad_hidden"), make.columns(dy_PD, "wgrad_gradient", drawn=True)
        dw_down_EFD = weight_gradient(make, a, dy, segments, w_down_EFD)
    dweight_TK = dweight_P.index_select(0, segments.slot_TK.view(-1)).view_as(segments.slot_TK)
    return dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK


def _quantizer(precision: Precision, key_4: Tensor, fused: bool, segments: Segments, experts: int) -> Quantizer:
    slots = {expert: end - start for expert, start, end in segments.bounds}
    slots_E = torch.tensor([slots.get(expert, 0) for expert in range(experts)], dtype=torch.int64)
    return Quantizer(precision.quantization, precision.arithmetic, key_4, fused, slots_E)


def product(make: Quantizer, rows: Operand, weights: Operand, segments: Segments) -> Tensor:
    """(P, O) in the arithmetic's dtype: the rows of every expert's segment times its weights."""
    shape = (rows.values.shape[0], weights.values.shape[2])
    if rows.scale is not None or weights.scale is not None:
        return _promoted(make, rows, weights, segments, shape)
    out_PO = torch.empty(shape, dtype=make.dtype)
    for expert, start, end in segments.bounds:
        torch.mm(rows.values[start:end], weights.values[expert], out=out_PO[start:end])
    divisors = _divisors(rows, weights)
    if any(divisor.ndim for divisor in divisors):
        expert_P = _experts(segments)
        divisors = [d.index_select(0, expert_P).view(-1, 1) if d.ndim else d for d in divisors]
    return _divided(make, out_PO, *divisors)


def _promoted(make: Quantizer, rows: Operand, weights: Operand, segments: Segments, shape: tuple[int, int]) -> Tensor:
    """A product for every block of the inner dimension; their sums scaled and added in fp32, in the order of the
    blocks."""
    block, inner = make.dials.block, rows.values.shape[1]
    count = inner // block
    part_NPO = torch.empty(count, *shape, dtype=make.dtype)
    for expert, start, end in segments.bounds:
        for n in range(count):
            at = slice(n * block, (n + 1) * block)
            torch.mm(rows.values[start:end, at], weights.values[expert, at], out=part_NPO[n, start:end])
    rows_scale = torch.ones(shape[0], count) if rows.scale is None else rows.scale
    if weights.scale is None:
        scale_PNM = rows_scale.unsqueeze(-1)
    else:
        scale_PNM = rows_scale.unsqueeze(-1) * weights.scale.index_select(0, _experts(segments))
    return make.run(_promote, scale_PNM, *part_NPO.unbind(0))


def weight_gradient(make: Quantizer, left: Operand, right: Operand, segments: Segments, w_EIO: Tensor) -> Tensor:
    """(E, I, O) in the arithmetic's dtype: left^T right over the rows of every expert."""
    dw_EIO = empty_gradient(w_EIO, segments, make.dtype)
    for expert, start, end in segments.bounds:
        if left.scale is None:
            torch.mm(left.values[start:end].t(), right.values[start:end], out=dw_EIO[expert])
        else:
            dw_EIO[expert] = _promoted_rows(make, left, right, start, end)
    return _divided(make, dw_EIO, *(d.view(-1, 1, 1) if d.ndim else d for d in _divisors(left, right)))


def _promoted_rows(make: Quantizer, left: Operand, right: Operand, start: int, end: int) -> Tensor:
    """(I, O) fp32: a product for every block of an expert's rows, scaled and added in fp32, in the order of the blocks."""
    total_IO = torch.zeros(left.values.shape[1], right.values.shape[1])
    for first in range(start, end, make.dials.block):
        rows = slice(first, min(first + make.dials.block, end))
        part_IO = left.values[rows].t() @ right.values[rows]
        left_I1, right_1O = left.scale[first // SIZE].unsqueeze(1), right.scale[first // SIZE].unsqueeze(0)
        total_IO += part_IO.float() * (left_I1 * right_1O)  # some 100 KB: a compiled call costs more than it saves
    return total_IO


def _experts(segments: Segments) -> Tensor:
    """int64 (P): whose each slot is."""
    expert_N, start_N, end_N = torch.tensor(segments.bounds, dtype=torch.int64).view(-1, 3).unbind(1)
    return expert_N.repeat_interleave(end_N - start_N)


def _divisors(*operands: Operand) -> list[Tensor]:
    return [operand.divisor for operand in operands if operand.divisor is not None]


def _divided(make: Quantizer, sums: Tensor, *divisors: Tensor) -> Tensor:
    """One after the other: the product of two divisors may leave fp32's range where neither does."""
    return make.run(_quotient, sums, *divisors) if divisors else sums


def _quotient(sums: Tensor, *divisors: Tensor) -> Tensor:
    quotient = sums.float()
    for divisor in divisors:
        quotient = quotient / divisor
    return quotient.to(sums.dtype)


def _promote(scale_PNM: Tensor, *part_PO: Tensor) -> Tensor:
    total, (slots, outer), blocks = 0.0, part_PO[0].shape, scale_PNM.shape[2]
    for n, part in enumerate(part_PO):
        total = total + part.float().view(slots, blocks, outer // blocks) * scale_PNM[:, n].unsqueeze(-1)
    return total.view(part_PO[0].shape).to(part_PO[0].dtype)
