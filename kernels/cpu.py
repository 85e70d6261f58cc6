"""The expert MLP on a CPU: contiguous per-expert segments, one GEMM each, forward and backward.

Each expert's rows are gathered, multiplied, activated and multiplied again while they are still in cache; nothing of size
T*K*D but the contiguous result that the combine reads. The routing weight scales the activation, not the output: it is the
same sum, on rows of F instead of D, and its gradient falls out of the down-projection's.

Saved for backward: x and the pre-activation (and the routing metadata), as the GPU kernels will.
"""

import torch
from torch import Tensor

from kernels.activation import Activation
from kernels.rounding import Arithmetic
from kernels.routing import Segments
from kernels.stages import stage


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
    """Fills `h_PG` with the pre-activations; returns y_TD in fp32. `x_TD` and the weights are operands already."""
    y_PD = torch.empty(h_PG.shape[0], x_TD.shape[1], dtype=h_PG.dtype)
    weight_P = slot_weights(weight_TK, segments).unsqueeze(-1)
    for expert, start, end in segments.bounds:
        h_RG = h_PG[start:end]
        with stage("gather"):
            x_RD = x_TD.index_select(0, segments.token_P[start:end])
        with stage("up"):
            torch.mm(x_RD, w_up_EDG[expert], out=h_RG)
        with stage("activation"):
            a_RF = arithmetic.operand(activation.forward(h_RG.float()).mul_(weight_P[start:end]))
        with stage("down"):
            torch.mm(a_RF, w_down_EFD[expert], out=y_PD[start:end])
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
    arithmetic: Arithmetic,
    h_PG: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK; of the weights in the dtype of h_PG, else fp32. One writer per output
    tile, no atomics."""
    dw_up_EDG, dw_down_EFD = (empty_gradient(w, segments, h_PG.dtype) for w in (w_up_EDG, w_down_EFD))
    dx_PD = torch.empty(h_PG.shape[0], x_TD.shape[1], dtype=h_PG.dtype)
    dweight_P = torch.empty(h_PG.shape[0], dtype=torch.float32)
    weight_P = slot_weights(weight_TK, segments).unsqueeze(-1)
    for expert, start, end in segments.bounds:
        token_R, weight_R = segments.token_P[start:end], weight_P[start:end]
        with stage("gather"):
            dy_RD, x_RD = dy_TD.index_select(0, token_R), x_TD.index_select(0, token_R)
        with stage("dH"):
            da_RF = (dy_RD @ w_down_EFD[expert].t()).float()
        with stage("activation"):
            a_RF, dh_RG = activation.backward(h_PG[start:end].float(), da_RF)
            torch.sum(da_RF.mul_(a_RF), dim=-1, dtype=torch.float32, out=dweight_P[start:end])
            a_RF, dh_RG = arithmetic.operand(a_RF.mul_(weight_R)), arithmetic.operand(dh_RG.mul_(weight_R))
        with stage("dW"):
            torch.mm(a_RF.t(), dy_RD, out=dw_down_EFD[expert])
            torch.mm(x_RD.t(), dh_RG, out=dw_up_EDG[expert])
        with stage("dX"):
            torch.mm(dh_RG, w_up_EDG[expert].t(), out=dx_PD[start:end])
    with stage("combine"):
        dx_TD = gather_sum(dx_PD, segments.slot_TK)
    dweight_TK = dweight_P.index_select(0, segments.slot_TK.view(-1)).view_as(segments.slot_TK)
    return dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK


def gather_sum(rows_PD: Tensor, slot_TK: Tensor) -> Tensor:
    """out_t = sum over k, in the order of k, of rows[slot_tk]; fp32. No scatter, so no order of arrival."""
    if rows_PD.dtype == torch.float32:
        return torch.nn.functional.embedding_bag(slot_TK, rows_PD, mode="sum")
    out_TD = rows_PD.index_select(0, slot_TK[:, 0]).float()
    for k in range(1, slot_TK.shape[1]):
        out_TD += rows_PD.index_select(0, slot_TK[:, k])
    return out_TD


def empty_gradient(w_EIO: Tensor, segments: Segments, dtype: torch.dtype) -> Tensor:
    """Where the gradient of `w_EIO` goes: zeros for experts without rows, unwritten for the others."""
    dw_EIO = torch.empty(w_EIO.shape, dtype=dtype)
    with_rows = {expert for expert, _, _ in segments.bounds}
    for expert in range(w_EIO.shape[0]):
        if expert not in with_rows:
            dw_EIO[expert].zero_()
    return dw_EIO


def slot_weights(weight_TK: Tensor, segments: Segments) -> Tensor:
    """The routing weight of each slot, exactly 0 in padding slots."""
    padded_R1 = torch.cat([weight_TK.reshape(-1).float(), torch.zeros(1)])
    return padded_R1.index_select(0, segments.row_P)
