"""The matrix product of the dense parts, under one of the arithmetics of `kernels.precision`.

Weights are stored input dimension first: y = x @ w.
"""

import torch
from torch import Tensor

from kernels import Arithmetic


class _RoundedProduct(torch.autograd.Function):
    """x @ w with all operands rounded to bf16, in the backward too, multiplied in fp32."""

    @staticmethod
    def forward(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, w = _rounded(x), _rounded(w)
        return x @ w, x, w

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    @staticmethod
    def backward(ctx, dy: Tensor, *_):
        x, w = ctx.saved_tensors
        dy = _rounded(dy)
        return dy @ w.t(), x.flatten(0, -2).t() @ dy.flatten(0, -2)


class _RoundedOperand(torch.autograd.Function):
    """Rounds to bf16 values in both directions; for operands of an attention that computes in fp32."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _rounded(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, dy: Tensor) -> Tensor:
        return _rounded(dy)


def _rounded(x: Tensor) -> Tensor:
    """fp32 `x` rounded to the nearest bf16 value, ties to even."""
    if torch.compiler.is_compiling():  # Inductor drops a cast there and back: round the bits instead
        bits = x.view(torch.int32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).view(torch.float32)
    return x.to(torch.bfloat16).to(torch.float32)


def product(x: Tensor, w: Tensor, arithmetic: Arithmetic) -> Tensor:
    """x (..., in) @ w (in, out) in the arithmetic's dtype; the accumulation is fp32."""
    if arithmetic.rounds:
        return _RoundedProduct.apply(x, w)[0]
    return x.to(arithmetic.dtype) @ w.to(arithmetic.dtype)


def operand(x: Tensor, arithmetic: Arithmetic) -> Tensor:
    """`x` as an operand of an attention product, differentiable."""
    return _RoundedOperand.apply(x) if arithmetic.rounds else x.to(arithmetic.dtype)
