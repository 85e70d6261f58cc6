"""Scores are sigmoid(x w) in fp32; the selection adds a bias that only balancing moves, the weights do not
(arXiv 2408.15664): they are the chosen scores, divided by their sum.

Letters: T tokens, D width, E experts.
"""

from typing import Any

import torch
from torch import Tensor

from harness.model.routing import Routing, TopK
from harness.plan.schema import Model


class SigmoidTopK(TopK):
    def __init__(self, model: Model, keys: Any = None):
        super().__init__(model, keys)
        self.register_buffer("bias", torch.zeros(model.num_experts))

    def forward(self, x_TD: Tensor, token_T: Tensor) -> Routing:
        logit_TE = self.logits(x_TD)
        score_TE = torch.sigmoid(logit_TE)
        return self.routing(logit_TE, score_TE, score_TE.detach() + self.bias)


PART = SigmoidTopK
