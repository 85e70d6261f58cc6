"""The oracle: the expert MLP as its equation reads, a loop over experts, differentiated by autograd.

Slow and plain on purpose; every backend is tested against it. `arithmetic` is applied to each operand through a
straight-through rounding, so that it stays an oracle for rounded operands too.
"""

import torch
from torch import Tensor

from kernels.activation import ACTIVATIONS
from kernels.precision import Arithmetic


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, arithmetic: Arithmetic) -> Tensor:
        return arithmetic.operand(x).to(torch.promote_types(x.dtype, torch.float32))

    @staticmethod
    def backward(ctx, dy: Tensor):
        return dy, None


def moe_mlp_reference(
    x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, activation: str,
    arithmetic: Arithmetic,
) -> Tensor:  # fmt: skip
    """y_t = sum over k of weight_tk * act(x_t w_up_e) w_down_e with e = expert_tk; shapes as `kernels.moe.moe_mlp`."""

    def rounded(x: Tensor) -> Tensor:
        return _StraightThrough.apply(x, arithmetic)

    act = _differentiable(activation)
    y_TD = x_TD.new_zeros(x_TD.shape, dtype=torch.promote_types(x_TD.dtype, torch.float32))
    # unbound once: the gradient of w[expert] would be a stack of zeros for every expert
    for expert, (w_up_DG, w_down_FD) in enumerate(zip(w_up_EDG.unbind(0), w_down_EFD.unbind(0))):
        token_R, slot_R = torch.where(expert_TK == expert)
        h_RG = rounded(x_TD[token_R]) @ rounded(w_up_DG)
        a_RF = weight_TK[token_R, slot_R].unsqueeze(-1).to(h_RG.dtype) * act(h_RG)
        y_TD = y_TD.index_add(0, token_R, rounded(a_RF) @ rounded(w_down_FD))
    return y_TD


def _differentiable(activation: str):
    if activation == "relu2":
        return lambda h: torch.relu(h) ** 2
    return ACTIVATIONS[activation].forward
