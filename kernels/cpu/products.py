"""The products of the expert MLP on a CPU, over the operands of `kernels.cpu.operands`, and the combine.

Letters as in `kernels.routing` and `kernels.cpu.operands`. Every product writes its sums where it is told to."""

import torch
from torch import Tensor

from kernels.cpu.operands import Operand, Quantizer
from kernels.hadamard import SIZE
from kernels.routing import Part, Segments


def product(make: Quantizer, rows: Operand, weights: Operand, part: Part, out_SO: Tensor) -> None:
    """The rows of every expert's segment times its weights, into `out_SO` of the arithmetic's dtype."""
    if rows.scale is not None or weights.scale is not None:
        _promoted(make, rows, weights, part, out_SO)
        return
    for expert, rows_RI, out_RO in part.split(rows.values, out_SO):
        torch.mm(rows_RI, weights.values[expert], out=out_RO)
    divisors = _divisors(rows, weights)
    if divisors:
        expert_S = _experts(part)
        make.run(_divide, out_SO, *(d.index_select(0, expert_S).view(-1, 1) if d.ndim else d for d in divisors))


def _promoted(make: Quantizer, rows: Operand, weights: Operand, part: Part, out_SO: Tensor) -> None:
    """A product for every block of the inner dimension; their sums scaled and added in fp32, in the order of the blocks."""
    block, (slots, inner) = make.dials.block, rows.values.shape
    count = inner // block
    part_NSO = out_SO.new_empty(count, *out_SO.shape)
    for expert, start, end in part.bounds:
        for n in range(count):
            at = slice(n * block, (n + 1) * block)
            torch.mm(rows.values[start:end, at], weights.values[expert, at], out=part_NSO[n, start:end])
    scale_SNM = (torch.ones(slots, count) if rows.scale is None else rows.scale).unsqueeze(-1)
    if weights.scale is not None:
        scale_SNM = scale_SNM * weights.scale.index_select(0, _experts(part))
    make.run(_promote, out_SO, scale_SNM, *part_NSO.unbind(0))


def weight_gradient(make: Quantizer, left: Operand, right: Operand, part: Part, dw_EIO: Tensor) -> None:
    """left^T right over the rows of every expert, into `dw_EIO` of the arithmetic's dtype."""
    if left.scale is not None:
        for expert, start, end in part.bounds:
            dw_EIO[expert] = _promoted_rows(make, left, right, start, end)
        return
    for expert, left_RI, right_RO in part.split(left.values, right.values):
        torch.mm(left_RI.t(), right_RO, out=dw_EIO[expert])
    divisors = _divisors(left, right)
    if divisors:
        make.run(_divide, dw_EIO, *(d.view(-1, 1, 1) if d.ndim else d for d in divisors))


def _promoted_rows(make: Quantizer, left: Operand, right: Operand, start: int, end: int) -> Tensor:
    """(I, O) fp32: a product for every block of an expert's rows, scaled and added in fp32, in the order of the blocks."""
    total_IO = torch.zeros(left.values.shape[1], right.values.shape[1])
    for first in range(start, end, make.dials.block):
        rows = slice(first, min(first + make.dials.block, end))
        part_IO = left.values[rows].t() @ right.values[rows]
        left_I1, right_1O = left.scale[first // SIZE].unsqueeze(1), right.scale[first // SIZE].unsqueeze(0)
        total_IO += part_IO.float() * (left_I1 * right_1O)  # some 100 KB: a compiled call costs more than it saves
    return total_IO


def empty_gradient(w_EIO: Tensor, segments: Segments, dtype: torch.dtype) -> Tensor:
    """Where the gradient of `w_EIO` goes: zeros for experts without rows, unwritten for the others."""
    dw_EIO = torch.empty(w_EIO.shape, dtype=dtype)
    with_rows = {expert for expert, _, _ in segments.bounds}
    for expert in range(w_EIO.shape[0]):
        if expert not in with_rows:
            dw_EIO[expert].zero_()
    return dw_EIO


def combine(make: Quantizer, rows_PD: Tensor, slot_TK: Tensor) -> Tensor:
    """out_t = sum over k, in the order of k, of rows[slot_tk]; fp32. No scatter, so no order of arrival."""
    if make.fused:
        return make.run(_gather_sum, rows_PD, slot_TK)
    if rows_PD.dtype == torch.float32:
        return torch.nn.functional.embedding_bag(slot_TK, rows_PD, mode="sum")
    out_TD = rows_PD.index_select(0, slot_TK[:, 0]).float()
    for k in range(1, slot_TK.shape[1]):
        out_TD += rows_PD.index_select(0, slot_TK[:, k])
    return out_TD


def _gather_sum(rows_PD: Tensor, slot_TK: Tensor) -> Tensor:
    out_TD = rows_PD[slot_TK[:, 0]].float()
    for k in range(1, slot_TK.shape[1]):
        out_TD = out_TD + rows_PD[slot_TK[:, k]].float()
    return out_TD


def _experts(part: Part) -> Tensor:
    """int64 (S): whose each slot is."""
    expert_N, start_N, end_N = torch.tensor(part.bounds, dtype=torch.int64).view(-1, 3).unbind(1)
    return expert_N.repeat_interleave(end_N - start_N)


def _divisors(*operands: Operand) -> list[Tensor]:
    return [operand.divisor for operand in operands if operand.divisor is not None]


def _divide(sums: Tensor, *divisors: Tensor) -> None:
    """One after the other: the product of two divisors may leave fp32's range where neither does."""
    quotient = sums.float()
    for divisor in divisors:
        quotient = quotient / divisor
    sums.copy_(quotient)


def _promote(out_SO: Tensor, scale_SNM: Tensor, *part_SO: Tensor) -> None:
    total, (slots, outer), blocks = 0.0, out_SO.shape, scale_SNM.shape[2]
    for n, part in enumerate(part_SO):
        total = total + part.float().view(slots, blocks, outer // blocks) * scale_SNM[:, n].unsqueeze(-1)
    out_SO.copy_(total.view(out_SO.shape))
