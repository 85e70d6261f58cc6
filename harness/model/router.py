"""Which experts a token goes to, and with what weight.

Letters: T tokens, D width, E experts, K top-k.

`SigmoidTopK`: scores are sigmoid(x w) in fp32; the selection adds a bias that only balancing moves, the weights do not
(arXiv 2408.15664): the chosen scores, divided by their sum.
`SoftmaxTopK`: scores are softmax(x w) in fp32 and have no bias; the weights are the chosen scores, divided by their sum.
`model.router_renormalize=false` leaves the weights of either as the scores are, as Switch does with its one (arXiv 2101.03961).
`Hash`: a fixed random table from token id to K experts, uniform weights (arXiv 2106.04426): the control that shows whether
learned routing means anything.
Both select by a unique integer key, so ties go to the lower expert id on every device.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.keyed import generator
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
    """int64 (E,): how many rows each expert gets. Integer sums, so their order does not matter."""
    ids = expert_TK.reshape(-1)
    return torch.zeros(num_experts, dtype=torch.int64, device=ids.device).scatter_add_(0, ids, torch.ones_like(ids))


class _TopK(nn.Module):
    """A learned score of every expert; the K largest are chosen."""

    def __init__(self, model: Model):
        super().__init__()
        self.experts, self.top_k, self.renormalize = model.num_experts, model.top_k, model.router_renormalize
        self.weight = nn.Parameter(torch.empty(model.width, model.num_experts))

    def _routing(self, logit_TE: Tensor, score_TE: Tensor, selection_TE: Tensor) -> Routing:
        """`selection_TE`: what decides, outside the gradient."""
        expert_TK = top_k_lower_id(selection_TE, min(self.top_k + 1, self.experts))
        expert_TK, runner_up = expert_TK[:, : self.top_k], expert_TK[:, -1:]
        weight_TK = score_TE.gather(1, expert_TK)
        gap = selection_TE.gather(1, expert_TK[:, -1:]) - selection_TE.gather(1, runner_up)
        if self.renormalize:
            weight_TK = weight_TK / (weight_TK.sum(1, keepdim=True) + 1e-20)
        return Routing(expert_TK, weight_TK, count_rows(expert_TK, self.experts), gap.mean(), logit_TE, score_TE)


class SigmoidTopK(_TopK):
    def __init__(self, model: Model):
        super().__init__(model)
        self.register_buffer("bias", torch.zeros(model.num_experts))

    def forward(self, x_TD: Tensor, token_T: Tensor) -> Routing:
        logit_TE = x_TD.float() @ self.weight
        score_TE = torch.sigmoid(logit_TE)
        return self._routing(logit_TE, score_TE, score_TE.detach() + self.bias)


class SoftmaxTopK(_TopK):
    def forward(self, x_TD: Tensor, token_T: Tensor) -> Routing:
        logit_TE = x_TD.float() @ self.weight
        score_TE = torch.softmax(logit_TE, dim=1)
        return self._routing(logit_TE, score_TE, score_TE.detach())


class Hash(nn.Module):
    """Needs token ids; has no parameters and no bias that could move."""

    def __init__(self, model: Model):
        super().__init__()
        self.experts = model.num_experts
        table = torch.empty(model.vocab_size, model.top_k, dtype=torch.int64)
        self.register_buffer("table_VK", table)

    def draw(self, seed: int, layer: int) -> None:
        """A seeded permutation of the experts for every token id; its first K."""
        draws = generator(seed, "hash router", layer).random((self.table_VK.shape[0], self.experts))
        order = torch.from_numpy(draws.argsort(axis=1, kind="stable"))
        self.table_VK.copy_(order[:, : self.table_VK.shape[1]])

    def forward(self, x_TD: Tensor, token_T: Tensor) -> Routing:
        expert_TK = self.table_VK.index_select(0, token_T)
        weight_TK = torch.full(expert_TK.shape, 1.0 / expert_TK.shape[1], device=x_TD.device)
        return Routing(expert_TK, weight_TK, count_rows(expert_TK, self.experts), x_TD.new_zeros((), dtype=torch.float32))


ROUTERS = {"sigmoid_topk": SigmoidTopK, "softmax_topk": SoftmaxTopK, "hash": Hash}
