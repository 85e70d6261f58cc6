"""The optimizers, one a file, and what a run asks of each: the update of some parameters."""

from typing import Any

import torch
from torch import Tensor, nn


class Update:
    """`parameters` by name, a learning-rate multiplier each, the part's own keys, and the dtype of the matrix products inside
    an update; state and weights stay fp32.

    What is known without torch (`harness/plan/parts/optim/NAME.py`) may also have `flops_per_step(plan, parameters)`, beside
    elementwise work, and `NUMBERS_PER_WEIGHT`, fp32 numbers of state for each weight; 2 where it is not stated.
    """

    backend = "torch"  # or "brgemm", where kernels in C++ run; the optimizer of all sets it

    def __init__(self, parameters: dict[str, nn.Parameter], multipliers: dict[str, float], keys: Any, dtype: torch.dtype):
        self.parameters, self.multipliers, self.keys, self.dtype = parameters, multipliers, keys, dtype

    def step(self, scale: float) -> None:
        """One update at `scale` times the planned learning rate; reads and keeps `p.grad`."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """The live state tensors by name; copying into them restores the optimizer."""
        raise NotImplementedError

    def for_scoring(self) -> None:
        """Called before the weights are scored or saved as a run's own; of those that train other weights than they score."""

    def for_training(self) -> None:
        """Called after it."""


def with_gradient(gradient_NIO: Tensor) -> Tensor:
    """fp32 (N, 1, 1): 0 of each matrix whose gradient is zero throughout, as that of an expert without tokens is, else 1."""
    return gradient_NIO.ne(0).any(2, keepdim=True).any(1, keepdim=True).float()
