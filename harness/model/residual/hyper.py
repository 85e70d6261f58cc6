"""Manifold-constrained hyper-connections (mHC, arXiv 2512.24880): n streams, of which each sublayer reads a mixture; what it
says goes into all, and a doubly stochastic matrix mixes the streams meanwhile.

    x' = RMSNorm(vec X)        [p | q | R] = a (x' phi) + b, of width n + n + n^2, with one a for each of the three
    read = sum_i sigmoid(p_i) X_i
    X_i <- sum_j H_ij X_j + 2 sigmoid(q_i) y        H = Sinkhorn(exp R), rows and columns in turns

Of every token, in fp32. The streams begin as copies of the embedding, and the head reads their mean. Before anything is learned
a sublayer reads the mean, writes once into each, and H is `stray` of each row away from the identity (1e-6 in published code).

Sinkhorn ends with columns: mixing keeps the sum of the streams to the last bit, which is what the head reads, and rows of H sum
to 1 as far as `rounds` bring it. Paper and DeepSeek-V4 end with the rows of H. Both are the same matrix once it has settled.

Letters: B batch, S sequence, D width, N streams.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.model.norm import rms_norm
from harness.model.part import Own
from harness.model.residual import Residual

if TYPE_CHECKING:
    from harness.plan.schema import Model

SCALE = 0.01  # what a starts as


class Hyper(Residual):
    OWN = {"phi": Own("scalar"), "scale": Own("scalar", "range", low=SCALE, high=SCALE), "offset": Own("scalar", "zero")}

    def __init__(self, model: "Model", keys: Any):
        super().__init__(model, keys)
        n, self.width, self.rounds = keys.streams, model.width, keys.rounds
        self.streams, self.sizes = n, (n, n, n * n)
        self.phi = nn.Parameter(torch.empty(n * model.width, sum(self.sizes)))
        self.scale = nn.Parameter(torch.empty(3))
        self.offset = nn.Parameter(torch.empty(sum(self.sizes)))
        self.register_buffer("start", _start(n, keys.stray), persistent=False)

    def flops(self) -> int:
        """The maps, and the mixing: n multiply-adds a number to read, n^2 to mix, n to write."""
        return 6 * (self.phi.numel() + (2 * self.streams + self.streams**2) * self.width)

    def kept_bytes(self) -> int:
        """A token's: the streams, what reads and writes them, and each round of Sinkhorn."""
        return 4 * (2 * self.streams * self.width + 2 * self.rounds * self.streams**2)

    @staticmethod
    def enter(x_BSD: Tensor, model: "Model", keys: Any) -> Tensor:
        return x_BSD.unsqueeze(2).repeat(1, 1, keys.streams, 1)

    @staticmethod
    def leave(stream: Tensor) -> Tensor:
        return stream.mean(2)

    @staticmethod
    def add(stream: Tensor, y_BSD: Tensor) -> Tensor:
        return stream + y_BSD.unsqueeze(2)

    def read(self, stream: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        maps, base = rms_norm(stream.flatten(2)) @ self.phi, self.offset + self.start
        parts = zip(self.scale.unbind(), maps.split(self.sizes, -1), base.split(self.sizes))
        pre_BSN, post_BSN, mixing = (a * found + b for a, found, b in parts)
        read_BSD = (torch.sigmoid(pre_BSN).unsqueeze(-1) * stream).sum(2)
        mix_BSNN = sinkhorn(mixing.unflatten(-1, (self.streams, self.streams)), self.rounds)
        return read_BSD, (2 * torch.sigmoid(post_BSN), mix_BSNN)

    def write(self, stream: Tensor, noted: tuple[Tensor, Tensor], y_BSD: Tensor) -> Tensor:
        post_BSN, mix_BSNN = noted
        written = post_BSN.unsqueeze(-1) * y_BSD.float().view_as(stream[:, :, 0]).unsqueeze(2)
        for j in range(self.streams):
            written = written + mix_BSNN[..., j].unsqueeze(-1) * stream[:, :, j].unsqueeze(2)
        return written


def _start(n: int, stray: float) -> Tensor:
    """What `offset` is added to, before which it is 0: reading the mean, writing once, and logarithms of a matrix whose rows
    have `stray` of 1 outside of the diagonal."""
    outside = math.log(stray / (n - 1) / (1 - stray))
    mixing = torch.full((n, n), outside).fill_diagonal_(0.0)
    return torch.cat((torch.full((n,), -math.log(n - 1)), torch.zeros(n), mixing.flatten()))


def sinkhorn(logits_NN: Tensor, rounds: int) -> Tensor:
    """Doubly stochastic (..., N, N) as far as `rounds` bring it: exp, then rows and columns divided by their sums in turns;
    columns last, so that these are exact."""
    h = (logits_NN - logits_NN.amax((-2, -1), keepdim=True)).exp()
    for _ in range(rounds):
        h = h / h.sum(-1, keepdim=True)
        h = h / h.sum(-2, keepdim=True)
    return h


PART = Hyper
