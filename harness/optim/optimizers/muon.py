"""Muon: momentum, then the nearest semi-orthogonal matrix, for matrices and stacks of expert matrices.

Letters: N matrices of a stack, I input and O output dimension (weights are stored input first). Newton-Schulz quintic and its
coefficients: Keller Jordan, "Muon" (2024). The update is scaled by sqrt(max(1, O/I)), so that its spectral norm follows the
shape. A matrix whose gradient is zero throughout, as that of an expert without tokens, keeps its momentum and is not moved:
momentum alone, made orthogonal, would move it at full speed.

Where kernels in C++ run (`kernels/cpu/brgemm`), a matrix goes through all of a step in one core's cache. Elsewhere all matrices
of one shape are iterated as one stack, 256 at a time. Products run in the dtype of the plan's products: bf16 where that is
native. On two AMX cores with torch 2.13 a stack of 64 matrices of 128 x 256 took 7.7 ms in bf16 and 24.8 in fp32.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.optim.optimizers import Update
from kernels.cpu.brgemm import calls

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
AT_ONCE = 256  # matrices of a stack: 2,816 of 768 x 768 would take some 25 GB beside themselves (counted, not measured)


def orthogonalize(g_NIO: Tensor, steps: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Newton-Schulz in `dtype` towards U V^T for each matrix U S V^T of the stack; singular values land in about [0.7, 1.2]."""
    a, b, c = COEFFICIENTS
    tall = g_NIO.shape[1] > g_NIO.shape[2]
    x = (g_NIO.mT if tall else g_NIO).float()
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).to(g_NIO.dtype)


class Muon(Update):
    """`parameters`: {name: matrix (I, O) or stack (N, I, O)}."""

    def __init__(
        self, parameters: dict[str, nn.Parameter], multipliers: dict[str, float], keys: Any, dtype: torch.dtype = torch.float32
    ):
        super().__init__(parameters, multipliers, keys, dtype)
        self.momentum = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.stacks: dict[tuple[int, ...], list[str]] = {}
        for name, p in parameters.items():
            self.stacks.setdefault(tuple(p.shape[-2:]), []).append(name)

    @torch.no_grad()
    def step(self, scale: float) -> None:
        for (rows, columns), names in self.stacks.items():
            gain = self.keys.lr * scale * max(1.0, columns / rows) ** 0.5
            rates = [gain * self.multipliers[name] for name in names]
            keeps = [1 - self.keys.lr * scale * self.multipliers[name] * self.keys.weight_decay for name in names]
            if self.backend == "brgemm" and calls.takes_muon(rows, columns):
                self._fused(names, rates, keeps)
            else:
                self._stacked(names, rates, keeps)

    def _fused(self, names: list[str], rates: list[float], keeps: list[float]) -> None:
        weights = [self.parameters[name] for name in names]
        gradients = [p.grad.contiguous() for p in weights]
        momenta, coefficients = [self.momentum[name] for name in names], [COEFFICIENTS] * self.keys.newton_schulz_steps
        calls.muon(weights, gradients, momenta, rates, keeps, self.keys.momentum, coefficients, self.dtype)

    def _stacked(self, names: list[str], rates: list[float], keeps: list[float]) -> None:
        """At most AT_ONCE matrices at a time, which bounds what the iteration holds beside weights and momenta."""
        pieces: list[_Piece] = []
        for name, rate, keep in zip(names, rates, keeps):
            p = self.parameters[name]
            stacks = zip(*(_stack(t).split(AT_ONCE) for t in (p, p.grad, self.momentum[name])))
            for piece in (_Piece(*tensors, rate, keep) for tensors in stacks):
                if pieces and sum(len(it.weight_NIO) for it in (*pieces, piece)) > AT_ONCE:
                    self._move(pieces)
                    pieces = []
                pieces.append(piece)
        self._move(pieces)

    def _move(self, pieces: "list[_Piece]") -> None:
        nesterov, moved, mu = [], [], self.keys.momentum
        for it in pieces:
            moved_N11 = it.gradient_NIO.ne(0).any(2, keepdim=True).any(1, keepdim=True).float()
            it.momentum_NIO.lerp_(it.gradient_NIO, (1 - mu) * moved_N11)
            nesterov.append(it.gradient_NIO.lerp(it.momentum_NIO, mu))
            moved.append(moved_N11)
        update = orthogonalize(torch.cat(nesterov), self.keys.newton_schulz_steps, self.dtype)
        for it, part, moved_N11 in zip(pieces, update.split([len(n) for n in nesterov]), moved):
            if it.keep != 1.0:
                it.weight_NIO.mul_(it.keep)
            it.weight_NIO.add_(part * moved_N11, alpha=-it.rate)

    def state(self) -> dict[str, Tensor]:
        return {f"muon.momentum.{name}": tensor for name, tensor in self.momentum.items()}


class _Piece(NamedTuple):
    """Views of some matrices of one parameter; `rate` and `keep`: what the update and the weights are multiplied by."""

    weight_NIO: Tensor
    gradient_NIO: Tensor
    momentum_NIO: Tensor
    rate: float
    keep: float


def _stack(x: Tensor) -> Tensor:
    """(N, I, O), a view; a matrix as a stack of one."""
    return x.view(-1, *x.shape[-2:])


PART = Muon
