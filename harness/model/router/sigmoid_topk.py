"""Scores are sigmoid(x w) in fp32; the selection adds a bias that only balancing moves, the weights do not
(arXiv 2408.15664): they are the chosen scores, divided by their sum.

Letters: T tokens, D width, E experts.
"""

from typing import Any

import torch
from torch import Tensor

from harness.model.routing import TopK
from harness.plan.schema import Model


class SigmoidTopK(TopK):
    def __init__(self, model: Model, keys: Any = None):
        super().__init__(model, keys)
        self.register_buffer("bias", torch.zeros(model.num_experts))

    def score(self, logit_TE: Tensor) -> Tensor:
        return torch.sigmoid(logit_TE)

    def selection(self, score_TE: Tensor) -> Tensor:
        return score_TE.detach() + self.bias


PART = SigmoidTopK
