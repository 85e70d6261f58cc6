"""Causal self-attention as one operation: rotary positions and norms are the caller's.

Letters: B batch, S sequence, H heads, A head width.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kernels.cpu.brgemm import calls
from kernels.precision import Arithmetic

BACKENDS = ("torch", "brgemm")


def causal_attention(
    q_BSHA: Tensor, k_BSHA: Tensor, v_BSHA: Tensor, *, backend: str = "torch", arithmetic: Arithmetic
) -> Tensor:
    """o_BSHA: softmax over the keys up to each query of q k^T / sqrt(A), times v; differentiable.

    q, k, v are operands of `arithmetic`. `brgemm` rounds probabilities and the gradients of scores to operands too, softmax and
    sums are fp32; its kernel takes multiples of 32 for S and A on a CPU, and what is not goes to torch, whose fused attention
    `torch` is.

    Raises:
        ValueError: an unknown backend; shapes that differ, or are no BSHA; another dtype than the arithmetic's.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: known are {', '.join(BACKENDS)}")
    for name, t in (("q", q_BSHA), ("k", k_BSHA), ("v", v_BSHA)):
        if t.ndim != 4 or t.shape != q_BSHA.shape:
            raise ValueError(f"{name} is {tuple(t.shape)} beside q {tuple(q_BSHA.shape)}, but all must be of one shape BSHA")
        if t.dtype != arithmetic.dtype:
            raise ValueError(f"{name} is {t.dtype}, but operands of {arithmetic.name!r} are {arithmetic.dtype}")
    if backend == "brgemm" and q_BSHA.device.type != "cuda" and calls.takes_attention(q_BSHA):
        return _forward_op(q_BSHA, k_BSHA, v_BSHA, arithmetic.name)[0]
    if not q_BSHA.numel():  # on which torch 2.11 divides by zero
        return q_BSHA + k_BSHA + v_BSHA
    by_head = (t.transpose(1, 2) for t in (q_BSHA, k_BSHA, v_BSHA))
    return scaled_dot_product_attention(*by_head, is_causal=True).transpose(1, 2)


@torch.library.custom_op("moe_speedrun::attention", mutates_args=())
def _forward_op(q_BSHA: Tensor, k_BSHA: Tensor, v_BSHA: Tensor, arithmetic: str) -> list[Tensor]:
    return list(calls.attention(*(t.contiguous() for t in (q_BSHA, k_BSHA, v_BSHA)), arithmetic))


@_forward_op.register_fake
def _(q_BSHA, k_BSHA, v_BSHA, arithmetic):
    batch, length, heads, _ = q_BSHA.shape
    lse_BHS = q_BSHA.new_empty((batch, heads, length), dtype=torch.float32)
    return [torch.empty_like(q_BSHA, memory_format=torch.contiguous_format), lse_BHS]


@torch.library.custom_op("moe_speedrun::attention_backward", mutates_args=())
def _backward_op(
    do_BSHA: Tensor, q_BSHA: Tensor, k_BSHA: Tensor, v_BSHA: Tensor, o_BSHA: Tensor, lse_BHS: Tensor, arithmetic: str
) -> list[Tensor]:
    tensors = (t.contiguous() for t in (do_BSHA, q_BSHA, k_BSHA, v_BSHA, o_BSHA, lse_BHS))
    return list(calls.attention_backward(*tensors, arithmetic))


@_backward_op.register_fake
def _(do_BSHA, q_BSHA, k_BSHA, v_BSHA, o_BSHA, lse_BHS, arithmetic):
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in (q_BSHA, k_BSHA, v_BSHA)]


def _setup(ctx, inputs, output) -> None:
    *tensors, ctx.arithmetic = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx, grads):
    return *_backward_op(grads[0], *ctx.saved_tensors, ctx.arithmetic), None


def _no_second_backward(ctx, grads):
    raise RuntimeError(
        "causal_attention has no second derivative, but its gradient was differentiated (create_graph=True); "
        "backend='torch' has one"
    )


_forward_op.register_autograd(_backward, setup_context=_setup)
_backward_op.register_autograd(_no_second_backward)
