"""What a router says, and what routers share.

Letters: T tokens, D width, E experts, K top-k. Experts are selected by a unique integer key, so ties go to the lower expert id
on every device. `model.router_renormalize=false` leaves the weights as the scores are, as Switch does with its one
(arXiv 2101.03961).
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.model.part import Own, Part
from kernels import router_logits, select_experts

if TYPE_CHECKING:
    from harness.plan.schema import Model


class Routing(NamedTuple):
    expert_TK: Tensor  # int64
    weight_TK: Tensor  # fp32, rows sum to 1 where they are renormalized
    count_E: Tensor  # int64: rows routed to each expert
    margin: Tensor  # fp32 scalar: mean gap between the k-th and the (k+1)-th selection score
    logit_TE: Tensor | None = None  # fp32; of routers that learn, for their auxiliary losses
    score_TE: Tensor | None = None  # fp32, unbiased


def top_k_lower_id(score_TE: Tensor, k: int) -> Tensor:
    """The ids of the k largest fp32 scores of each row, largest first; ties to the lower id. NaN sorts above everything."""
    bits = (score_TE + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0, which must tie
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).masked_fill(score_TE.isnan(), 0x7FFFFFFF).to(torch.int64)
    experts = score_TE.shape[1]
    key_TE = ordered * experts + (experts - 1 - torch.arange(experts, device=score_TE.device))
    best_TK = key_TE.topk(k, dim=1, sorted=True).values
    return experts - 1 - best_TK.remainder(experts)


def count_rows(expert_TK: Tensor, num_experts: int) -> Tensor:
    """int64 (E,): how many rows each expert gets. Integer sums, so their order does not matter. A GPU compares every id with
    every expert: where it must repeat, torch makes a sort of a scatter, which walks an expert's rows one by one."""
    ids = expert_TK.reshape(-1)
    if ids.is_cuda:
        return (ids[:, None] == torch.arange(num_experts, device=ids.device)).sum(0)
    return torch.zeros(num_experts, dtype=torch.int64, device=ids.device).scatter_add_(0, ids, torch.ones_like(ids))


class Router(Part):
    """`keys`: the part's own, None of a part without. A router that balancing may move has a buffer `bias`, fp32 (E,)."""

    def __init__(self, model: "Model", keys: Any = None):
        super().__init__()

    def forward(self, x_TD: Tensor, token_T: Tensor) -> Routing:
        """`x_TD` is fp32; `token_T` the tokens' ids."""
        raise NotImplementedError


class TopK(Router):
    """A learned score of every expert; the K largest are chosen, by `selection`."""

    OWN = {"weight": Own("router")}

    def __init__(self, model: "Model", keys: Any = None):
        super().__init__(model, keys)
        self.experts, self.top_k, self.renormalize = model.num_experts, model.top_k, model.router_renormalize
        self.weight = nn.Parameter(torch.empty(model.width, model.num_experts))

    def forward(self, x_TD: Tensor, token_T: Tensor) -> Routing:
        logit_TE = self.logits(x_TD)
        score_TE = self.score(logit_TE)
        return self.routing(logit_TE, score_TE, self.selection(score_TE))

    def score(self, logit_TE: Tensor) -> Tensor:
        """score_TE, of which the weights are made."""
        raise NotImplementedError

    def selection(self, score_TE: Tensor) -> Tensor:
        """What decides who is chosen, (T, E), outside the gradient."""
        return score_TE.detach()

    def logits(self, x_TD: Tensor) -> Tensor:
        """logit_TE in fp32."""
        x_TD = x_TD.float()
        return router_logits(x_TD, self.weight) if x_TD.is_cuda else x_TD @ self.weight

    def routing(self, logit_TE: Tensor, score_TE: Tensor, selection_TE: Tensor) -> Routing:
        """`selection_TE`: what decides, outside the gradient."""
        if score_TE.is_cuda:  # the same in one kernel
            expert_TK, weight_TK, gap = select_experts(score_TE, selection_TE, self.top_k)
        else:
            expert_TK = top_k_lower_id(selection_TE, min(self.top_k + 1, self.experts))
            expert_TK, runner_up = expert_TK[:, : self.top_k], expert_TK[:, -1:]
            weight_TK = score_TE.gather(1, expert_TK)
            gap = selection_TE.gather(1, expert_TK[:, -1:]) - selection_TE.gather(1, runner_up)
        if self.renormalize:
            weight_TK = weight_TK / (weight_TK.sum(1, keepdim=True) + 1e-20)
        return Routing(expert_TK, weight_TK, count_rows(expert_TK, self.experts), gap.mean(), logit_TE, score_TE)
