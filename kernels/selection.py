"""What a router does on a GPU: `router_logits`, its fp32 product, and `select_experts`, which K experts a token goes to, each
as one operation (`kernels.triton.thin_product`, `kernels.triton.router`).

Letters: T tokens, D width, E experts, K top-k.
"""

import torch
from torch import Tensor


def router_logits(x_TD: Tensor, w_DE: Tensor) -> Tensor:
    """x @ w in fp32 with about fp32's error, by tensor cores; differentiable. Both fp32, on a CUDA device.

    Raises:
        ValueError: other dtypes, or shapes that do not fit.
    """
    if not x_TD.dtype == w_DE.dtype == torch.float32 or x_TD.ndim != 2 or x_TD.shape[1:] != w_DE.shape[:1] or w_DE.ndim != 2:
        raise ValueError(
            f"x {tuple(x_TD.shape)} of {x_TD.dtype} and w {tuple(w_DE.shape)} of {w_DE.dtype} are no TD and DE in fp32"
        )
    return _product(x_TD, w_DE)


@torch.library.custom_op("moe_speedrun::thin_product", mutates_args=())
def _product(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    from kernels.triton.thin_product import thin_product

    return thin_product(a_MK, b_KN)


@_product.register_fake
def _(a_MK, b_KN):
    return a_MK.new_empty(a_MK.shape[0], b_KN.shape[1])


def _setup_product(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _product_backward(ctx, gradient_MN):
    a_MK, b_KN = ctx.saved_tensors
    return _product(gradient_MN, b_KN.t()), _product(a_MK.t(), gradient_MN)


_product.register_autograd(_product_backward, setup_context=_setup_product)


def select_experts(score_TE: Tensor, selection_TE: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """expert_TK int64, largest `selection_TE` first, ties to the lower id, NaN above everything; chosen_TK, their `score_TE`,
    differentiable; gap_T, by how much the last was chosen before the next expert, 0 where there is none. Scores are fp32 on a
    CUDA device; `selection_TE` is outside the gradient.

    Raises:
        ValueError: scores of other dtypes or shapes; more experts asked for than there are.
    """
    if score_TE.ndim != 2 or score_TE.shape != selection_TE.shape or not score_TE.dtype == selection_TE.dtype == torch.float32:
        raise ValueError(
            f"score is {tuple(score_TE.shape)} of {score_TE.dtype} and selection {tuple(selection_TE.shape)} of "
            f"{selection_TE.dtype}, but both must be TE in fp32"
        )
    if not 1 <= top_k <= score_TE.shape[1]:
        raise ValueError(f"top_k={top_k} of {score_TE.shape[1]} experts")
    expert_TK, chosen_TK, gap_T = _op(score_TE, selection_TE, top_k)
    return expert_TK, chosen_TK, gap_T


@torch.library.custom_op("moe_speedrun::select_experts", mutates_args=())
def _op(score_TE: Tensor, selection_TE: Tensor, top_k: int) -> list[Tensor]:
    from kernels.triton.router import select

    return list(select(score_TE, selection_TE, top_k))


@_op.register_fake
def _(score_TE, selection_TE, top_k):
    size = score_TE.shape[0], top_k
    return [score_TE.new_empty(size, dtype=torch.int64), score_TE.new_empty(size), score_TE.new_empty(size[0])]


@torch.library.custom_op("moe_speedrun::select_experts_backward", mutates_args=())
def _backward_op(dchosen_TK: Tensor, expert_TK: Tensor, experts: int) -> Tensor:
    from kernels.triton.router import select_backward

    return select_backward(dchosen_TK, expert_TK, experts)


@_backward_op.register_fake
def _(dchosen_TK, expert_TK, experts):
    return dchosen_TK.new_empty(dchosen_TK.shape[0], experts)


def _setup(ctx, inputs, output) -> None:
    ctx.experts = inputs[0].shape[1]
    ctx.save_for_backward(output[0])
    ctx.set_materialize_grads(False)


def _backward(ctx, grads):
    (expert_TK,) = ctx.saved_tensors
    return None if grads[1] is None else _backward_op(grads[1], expert_TK, ctx.experts), None, None


_op.register_autograd(_backward, setup_context=_setup)
