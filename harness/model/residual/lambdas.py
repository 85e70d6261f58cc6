"""Two numbers a sublayer weigh the stream and the embedding that it began with (nanochat's and modded-nanogpt's lambdas):

    x <- r x + s x0        x0 = RMSNorm(embedding)
    x <- x + sublayer(norm(x))

r starts at 1 and s at 0: plain. The published ones have a pair a block, here attention and feed-forward have one each.

Letters: B batch, S sequence, D width.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.model.norm import rms_norm
from harness.model.part import Own
from harness.model.residual import Residual

if TYPE_CHECKING:
    from harness.plan.schema import Model

Stream = tuple[Tensor, Tensor]  # x, x0


class Lambdas(Residual):
    OWN = {"kept": Own("scalar", "one"), "begun": Own("scalar", "zero")}

    def __init__(self, model: "Model", keys: Any):
        super().__init__(model, keys)
        self.kept, self.begun = nn.Parameter(torch.empty(1)), nn.Parameter(torch.empty(1))

    @staticmethod
    def enter(x_BSD: Tensor, model: "Model", keys: Any) -> Stream:
        return x_BSD, rms_norm(x_BSD)

    @staticmethod
    def leave(stream: Stream) -> Tensor:
        return stream[0]

    @staticmethod
    def add(stream: Stream, y_BSD: Tensor) -> Stream:
        return stream[0] + y_BSD, stream[1]

    def read(self, stream: Stream) -> tuple[Tensor, Tensor]:
        x_BSD = self.kept * stream[0] + self.begun * stream[1]
        return x_BSD, x_BSD

    def write(self, stream: Stream, noted: Tensor, y_BSD: Tensor) -> Stream:
        return noted + y_BSD.float().view_as(noted), stream[1]


PART = Lambdas
