"""`select_experts`: which K experts a token goes to, as one operation; on a GPU (`kernels.triton.router`).

Letters: T tokens, E experts, K top-k.
"""

import torch
from torch import Tensor


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
