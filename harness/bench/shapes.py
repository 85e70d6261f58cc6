"""The shapes that expert kernels are timed at, and random inputs of them.

Letters: T tokens, D width, F expert width, G pre-activation width, E experts, K top-k.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.activation import ACTIVATIONS


@dataclass(frozen=True)
class Shape:
    T: int
    D: int
    F: int
    E: int
    K: int
    activation: str = "swiglu"

    @property
    def G(self) -> int:
        return self.F * ACTIVATIONS[self.activation].fan

    @property
    def forward_flops(self) -> int:
        """The two products take 6TKDF for SwiGLU, 4TKDF for squared ReLU; the backward takes twice as many."""
        return 2 * self.T * self.K * self.D * (self.G + self.F)

    @property
    def lean_bytes(self) -> int:
        """What the backward needs of bf16 tensors: x and the pre-activation, T(2D + 4KF) for SwiGLU."""
        return 2 * self.T * (self.D + self.K * self.G)

    def __str__(self) -> str:
        return f"{self.T} x {self.D}, {self.E} x {self.F}, top-{self.K}, {self.activation}"


# published by SonicMoE (figure 14) and Liger's benchmarks; then the layers of wiki-moe-64e, -256e and wiki-s-moe-64e
_GPU = (
    (24576, 1536, 256, 128, 8), (40960, 768, 512, 64, 4), (32768, 4096, 512, 128, 8), (32768, 4096, 1024, 64, 4),
    (8192, 2048, 768, 128, 8), (32768, 2048, 768, 128, 8), (32768, 2048, 1024, 64, 8),
    (65536, 768, 384, 64, 6), (65536, 768, 384, 256, 7), (65536, 512, 256, 64, 6),
)  # fmt: skip
SETS = {
    "gpu": tuple(Shape(*numbers) for numbers in _GPU),
    # the layer of tiny-moe-16e; that of sotu-moe-256e; wider experts; a narrow slice of the big family's layer
    "cpu": (
        Shape(4096, 256, 128, 16, 4, "relu2"), Shape(4096, 256, 32, 256, 16, "relu2"), Shape(2048, 512, 256, 16, 4),
        Shape(1024, 768, 384, 64, 6),
    ),
    # what a GPU that is lent for minutes is asked first: the layers of wiki-s-moe-64e, wiki-moe-64e and a published one
    "first": (Shape(32768, 512, 256, 64, 6), Shape(16384, 768, 384, 64, 6), Shape(32768, 2048, 768, 128, 8)),
    "toy": (Shape(24, 32, 16, 4, 2), Shape(24, 32, 16, 8, 2, "relu2")),
}  # fmt: skip
# rows per expert: the same rows spread over ever more experts
SWEEPS = {
    "gpu": tuple(Shape(65536, 768, 384, experts, 8) for experts in (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)),
    "cpu": tuple(Shape(2048, 128, 64, experts, 8, "relu2") for experts in (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)),
    "first": tuple(Shape(65536, 768, 384, experts, 8) for experts in (64, 256)),
    "toy": tuple(Shape(24, 32, 16, experts, 2) for experts in (8, 16)),
}
# formats below bf16 against bf16; the second is the layer of moe-64e
FORMAT_SHAPES = {
    "gpu": (Shape(32768, 4096, 1024, 64, 4), Shape(65536, 768, 384, 64, 6)),
    "cpu": (Shape(4096, 256, 128, 16, 4, "relu2"),),
    "first": (Shape(65536, 768, 384, 64, 6),),
    "toy": (Shape(6, 128, 128, 2, 1),),
}


ROUTINGS = ("distinct", "one expert", "duplicates", "two experts")


@dataclass
class Inputs:
    x_TD: Tensor
    w_up_EDG: Tensor
    w_down_EFD: Tensor
    expert_TK: Tensor
    weight_TK: Tensor  # fp32
    dy_TD: Tensor


def routing(kind: str, tokens: int, experts: int, top_k: int, draws: torch.Generator) -> Tensor:
    """expert_TK int64 of one of ROUTINGS."""
    if kind == "one expert":
        return torch.full((tokens, top_k), experts - 1, device=draws.device)
    if kind == "duplicates":
        return torch.randint(experts, (tokens, 1), generator=draws, device=draws.device).expand(tokens, top_k).contiguous()
    if kind == "two experts":
        return torch.randint(min(2, experts), (tokens, top_k), generator=draws, device=draws.device)
    return torch.rand(tokens, experts, generator=draws, device=draws.device).argsort(1)[:, :top_k].contiguous()


def inputs(shape: Shape, dtype: torch.dtype, device: str, seed: int = 0, kind: str = "distinct") -> Inputs:
    """Random routing of `kind`, pre-activations and outputs of about unit size."""
    draws = torch.Generator(device).manual_seed(seed)

    def normal(*size: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*size, generator=draws, device=device) * scale).to(dtype)

    return Inputs(
        normal(shape.T, shape.D),
        normal(shape.E, shape.D, shape.G, scale=shape.D**-0.5),
        normal(shape.E, shape.F, shape.D, scale=shape.F**-0.5),
        routing(kind, shape.T, shape.E, shape.K, draws),
        torch.rand(shape.T, shape.K, generator=draws, device=device).softmax(1),
        normal(shape.T, shape.D),
    )
