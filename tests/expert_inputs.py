"""Inputs of the expert MLP, and one forward and backward over them: for the tests of every backend."""

import torch

from harness.bench.shapes import ROUTINGS as ROUTINGS
from harness.bench.shapes import routing
from kernels import Precision, moe_mlp

BF16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # whether this processor multiplies it
IN_BRGEMM = ("full", "emulated", *(("native",) if BF16 else ()))  # arithmetics of the kernels in C++ here


def inputs(tokens, width, expert_width, experts, top_k, activation, kind="distinct", seed=0):
    """x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK with pre-activations and outputs of about unit size."""
    draws = torch.Generator().manual_seed(seed)
    fan = 2 if activation == "swiglu" else 1
    x_TD = torch.randn(tokens, width, generator=draws)
    w_up_EDG = torch.randn(experts, width, expert_width * fan, generator=draws) / width**0.5
    w_down_EFD = torch.randn(experts, expert_width, width, generator=draws) / expert_width**0.5
    expert_TK = routing(kind, tokens, experts, top_k, draws)
    return x_TD, w_up_EDG, w_down_EFD, expert_TK, torch.rand(tokens, top_k, generator=draws)


def run(tensors, dy_TD, *, precision="full", **options):
    """(y, dx, dw_up, dw_down, dweight). `precision`: one, or its text."""
    x, w_up, w_down, expert_TK, weight = tensors
    leaves = [t.detach().requires_grad_() for t in (x, w_up, w_down, weight)]
    y_TD = moe_mlp(*leaves[:3], expert_TK, leaves[3], precision=Precision.of(str(precision)), **options)
    return [y_TD.detach(), *torch.autograd.grad(y_TD, leaves, dy_TD)]


def relative_error(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))
