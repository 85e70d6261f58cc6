"""Scores are softmax(x w) in fp32 and have no bias; the weights are the chosen scores, divided by their sum.

Letters: T tokens, D width, E experts.
"""

import torch
from torch import Tensor

from harness.model.routing import TopK


class SoftmaxTopK(TopK):
    def score(self, logit_TE: Tensor) -> Tensor:
        return torch.softmax(logit_TE, dim=1)


PART = SoftmaxTopK
