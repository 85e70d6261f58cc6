"""A fixed random table from token id to K experts, uniform weights (arXiv 2106.04426): the control that shows whether learned
routing means anything.

Letters: T tokens, V vocabulary, E experts, K top-k.
"""

from typing import Any

import torch
from torch import Tensor

from harness.keyed import generator
from harness.model.routing import Router, Routing, count_rows
from harness.plan.schema import Model


class Hash(Router):
    """Needs token ids; has no parameters and no bias that could move."""

    def __init__(self, model: Model, keys: Any = None):
        super().__init__(model, keys)
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


PART = Hash
