"""Scores are softmax(x w) in fp32 and have no bias; the weights are the chosen scores, divided by their sum.

Letters: T tokens, D width, E experts.
"""

import torch
from torch import Tensor

from harness.model.routing import Routing, TopK


class SoftmaxTopK(TopK):
    def forward(self, x_TD: Tensor, token_T: Tensor) -> Routing:
        logit_TE = self.logits(x_TD)
        score_TE = torch.softmax(logit_TE, dim=1)
        return self.routing(logit_TE, score_TE, score_TE.detach())


PART = SoftmaxTopK
