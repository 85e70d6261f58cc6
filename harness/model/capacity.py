"""Which rows an expert with a capacity leaves out.

Letters: T tokens, E experts, K top-k, R = T*K rows. Of each expert the rows with the largest routing weight stay, ties to the
lower row. Only training drops: whether a token's row stays depends on later tokens, so a score with drops would have seen what
it predicts. A dropped row contributes nothing; the weights of the token's other rows stay as they are (as in Switch,
arXiv 2101.03961, section 2.2, where the token goes on through the residual stream alone).
"""

import torch
from torch import Tensor

DROPPED = -1  # as an expert id: `kernels.moe_mlp` leaves the row out


def drop(expert_TK: Tensor, weight_TK: Tensor, count_E: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
    """(expert_TK with DROPPED in place of what is left out, dropped_E int64). `count_E`: the rows of each expert;
    `weight_TK` fp32, at least 0."""
    expert_R, rows = expert_TK.reshape(-1), expert_TK.numel()
    lightness_R = 0x7FFFFFFF - weight_TK.detach().reshape(-1).view(torch.int32).to(torch.int64)  # bits order as values do
    order_R = torch.sort(expert_R * (1 << 32) + lightness_R, stable=True).indices
    start_E = count_E.cumsum(0) - count_E
    place_R = torch.arange(rows, device=expert_R.device) - start_E.index_select(0, expert_R.index_select(0, order_R))
    left_out_R = torch.empty(rows, dtype=torch.bool, device=expert_R.device).scatter_(0, order_R, place_R >= capacity)
    return expert_TK.masked_fill(left_out_R.view_as(expert_TK), DROPPED), (count_E - capacity).clamp(min=0)
