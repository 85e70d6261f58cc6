"""A toy residual scheme: two streams, of which each sublayer reads one and writes both."""

import torch
from torch import Tensor, nn

from harness.model.part import Own
from harness.model.residual import Residual


class Halves(Residual):
    OWN = {"share": Own("norm", "one")}

    def __init__(self, model, keys):
        super().__init__(model, keys)
        self.share = nn.Parameter(torch.empty(1))

    @staticmethod
    def enter(x_BSD: Tensor, model, keys) -> Tensor:
        return torch.stack((x_BSD, x_BSD))

    @staticmethod
    def leave(stream: Tensor) -> Tensor:
        return stream.mean(0)

    @staticmethod
    def add(stream: Tensor, y_BSD: Tensor) -> Tensor:
        return torch.stack((stream[0] + y_BSD, stream[1]))

    def read(self, stream: Tensor) -> tuple[Tensor, None]:
        return stream[0], None

    def write(self, stream: Tensor, noted: None, y_BSD: Tensor) -> Tensor:
        return torch.stack((stream[1], stream[0] + self.share * y_BSD.float()))


PART = Halves
