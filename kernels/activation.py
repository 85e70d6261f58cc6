"""The two activations of an expert, forward and backward, on rows of pre-activations.

Suffixes: R rows, F expert width, G width of the pre-activation (F for squared ReLU, 2F for SwiGLU: gate, then value).
Written with out-of-place tensor arithmetic on purpose: the CPU path calls them on one expert's rows at a time, which
stay in cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import silu


@dataclass(frozen=True)
class Activation:
    """`forward(h_RG) -> a_RF`, `backward(h_RG, da_RF) -> (a_RF, dh_RG)`; `fan` is G / F."""

    fan: int
    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _relu2(h_RF: Tensor) -> Tensor:
    return h_RF.relu().square_()


def _relu2_backward(h_RF: Tensor, da_RF: Tensor) -> tuple[Tensor, Tensor]:
    positive_RF = h_RF.relu()
    dh_RF = torch.mul(positive_RF, da_RF).mul_(2)
    return positive_RF.square_(), dh_RF


def _swiglu(h_RG: Tensor) -> Tensor:
    gate_RF, value_RF = h_RG.chunk(2, dim=-1)
    return silu(gate_RF) * value_RF


def _swiglu_backward(h_RG: Tensor, da_RF: Tensor) -> tuple[Tensor, Tensor]:
    gate_RF, value_RF = h_RG.chunk(2, dim=-1)
    sigmoid_RF = torch.sigmoid(gate_RF)
    silu_RF = gate_RF * sigmoid_RF
    dh_RG = torch.empty_like(h_RG)
    dgate_RF, dvalue_RF = dh_RG.chunk(2, dim=-1)
    dvalue_RF.copy_(da_RF * silu_RF)
    dgate_RF.copy_(da_RF * value_RF * (sigmoid_RF + silu_RF * (1 - sigmoid_RF)))
    return silu_RF * value_RF, dh_RG


ACTIVATIONS = {
    "relu2": Activation(1, _relu2, _relu2_backward),
    "swiglu": Activation(2, _swiglu, _swiglu_backward),
}


@cache
def between_products(activation: Activation) -> tuple[Callable[..., Tensor], Callable[..., tuple[Tensor, Tensor, Tensor]]]:
    """(h_PG, weight_P1) -> weight * act(h), and (h_PG, da_PF, weight_P1) -> dweight_P, weight * act(h), dh_PG; computed in
    fp32, stored in h's dtype. Arguments are not written to: of SwiGLU torch 2.11's compiler read a da_PF that had already been
    overwritten."""

    def activate(h_PG: Tensor, weight_P1: Tensor) -> Tensor:
        return activation.forward(h_PG.float()).mul_(weight_P1).to(h_PG.dtype)

    def activate_backward(h_PG: Tensor, da_PF: Tensor, weight_P1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        da_PF = da_PF.float()
        a_PF, dh_PG = activation.backward(h_PG.float(), da_PF)
        dweight_P = (da_PF * a_PF).sum(-1)
        return dweight_P, a_PF.mul_(weight_P1).to(h_PG.dtype), dh_PG.mul_(weight_P1).to(h_PG.dtype)

    return activate, activate_backward
