"""The residual schemes of a language model trained by moe-speedrun: how a sublayer meets the stream.

Letters: B batch, S sequence, D width, N streams.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from .layers_moe_speedrun import parameter, rms_norm


class Plain(nn.Module):
    """The stream is the sum of what all sublayers said. One of each sublayer, as of the other schemes."""

    def __init__(self, config: PretrainedConfig):
        super().__init__()

    def enter(self, x_BSD: Tensor) -> Any:
        """The stream that begins with the embeddings."""
        return x_BSD

    def leave(self, stream: Any) -> Tensor:
        """What the head reads."""
        return stream

    def add(self, stream: Any, y_BSD: Tensor) -> Any:
        """The stream after a memory has spoken."""
        return stream + y_BSD

    def read(self, stream: Any) -> tuple[Tensor, Any]:
        """What the sublayer's norm reads, and what `write` is to know of it."""
        return stream, None

    def write(self, stream: Any, noted: Any, y_BSD: Tensor) -> Any:
        return stream + y_BSD


class Lambdas(Plain):
    """x <- kept x + begun RMSNorm(embedding), before each sublayer. A stream is both tensors."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.kept, self.begun = parameter(1), parameter(1)

    def enter(self, x_BSD: Tensor) -> Any:
        return x_BSD, rms_norm(x_BSD)

    def leave(self, stream: Any) -> Tensor:
        return stream[0]

    def add(self, stream: Any, y_BSD: Tensor) -> Any:
        return stream[0] + y_BSD, stream[1]

    def read(self, stream: Any) -> tuple[Tensor, Any]:
        x_BSD = self.kept * stream[0] + self.begun * stream[1]
        return x_BSD, x_BSD

    def write(self, stream: Any, noted: Any, y_BSD: Tensor) -> Any:
        return noted + y_BSD, stream[1]


class Hyper(Plain):
    """Hyper-connections (mHC, arXiv 2512.24880): a sublayer reads a mixture of N streams and writes into all, and a doubly
    stochastic matrix mixes them meanwhile. A stream is (B, S, N, D)."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        keys, width = config.residual, config.hidden_size
        n, stray = keys["streams"], keys["stray"]
        self.streams, self.rounds, self.sizes = n, keys["rounds"], (n, n, n * n)
        self.phi, self.scale, self.offset = parameter(n * width, sum(self.sizes)), parameter(3), parameter(sum(self.sizes))
        outside = math.log(stray / (n - 1) / (1 - stray))
        self.start = [-math.log(n - 1)] * n + [0.0] * n + [0.0 if i % (n + 1) == 0 else outside for i in range(n * n)]

    def enter(self, x_BSD: Tensor) -> Any:
        return x_BSD.unsqueeze(2).repeat(1, 1, self.streams, 1)

    def leave(self, stream: Any) -> Tensor:
        return stream.mean(2)

    def add(self, stream: Any, y_BSD: Tensor) -> Any:
        return stream + y_BSD.unsqueeze(2)

    def read(self, stream: Any) -> tuple[Tensor, Any]:
        maps = rms_norm(stream.flatten(2)) @ self.phi.float()
        base = self.offset.float() + torch.tensor(self.start, device=maps.device)
        parts = zip(self.scale.unbind(), maps.split(self.sizes, -1), base.split(self.sizes))
        pre_BSN, post_BSN, mixing = (scale * found + at for scale, found, at in parts)
        h_BSNN = mixing.unflatten(-1, (self.streams, self.streams))
        h_BSNN = (h_BSNN - h_BSNN.amax((-2, -1), keepdim=True)).exp()
        for _ in range(self.rounds):  # Sinkhorn
            h_BSNN = h_BSNN / h_BSNN.sum(-1, keepdim=True)
            h_BSNN = h_BSNN / h_BSNN.sum(-2, keepdim=True)
        return (torch.sigmoid(pre_BSN).unsqueeze(-1) * stream).sum(2), (2 * torch.sigmoid(post_BSN), h_BSNN)

    def write(self, stream: Any, noted: Any, y_BSD: Tensor) -> Any:
        post_BSN, h_BSNN = noted
        return h_BSNN @ stream + post_BSN.unsqueeze(-1) * y_BSD.unsqueeze(2)


SCHEMES = {"plain": Plain, "lambdas": Lambdas, "hyper": Hyper}
