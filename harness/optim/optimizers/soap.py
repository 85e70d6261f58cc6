"""SOAP (arXiv 2409.11321): Adam in the eigenbases of Shampoo's two factors, which are looked at every few steps.

Letters: N matrices of a stack, I input and O output dimension. Experts are matrices of their own, never one.

    L = EMA of G G^T, R = EMA of G^T G, with bases Q_L, Q_R        G' = Q_L^T G Q_R
    Adam's moments of G', in the bases; the update Q_L (m / (sqrt(v) + eps)) Q_R^T

A matrix's first gradient that is not zero makes its bases (by eigendecomposition) and moves nothing. Later a basis is moved by
one step of the power iteration and a QR decomposition, its vectors sorted by what the factor makes of them; m is carried into
the new basis, and v is sorted with it.

Reference code makes the bases of the very first gradient. That one is zero of whatever lies before a projection that begins at
zero, and of an expert without tokens: bases of nothing, to which v stays tied when they first turn.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harness.optim.optimizers import Update, with_gradient


class Soap(Update):
    """`parameters`: {name: matrix (I, O) or stack (N, I, O)}."""

    def __init__(
        self, parameters: dict[str, nn.Parameter], multipliers: dict[str, float], keys: Any, dtype: torch.dtype = torch.float32
    ):
        super().__init__(parameters, multipliers, keys, dtype)
        self.moments = {name: _Moments.of(p) for name, p in parameters.items()}
        self.count = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def step(self, scale: float) -> None:
        k, step = self.keys, int(self.count)
        self.count += 1
        for name, p in self.parameters.items():
            gradient_NIO, of = p.grad.view(-1, *p.shape[-2:]), self.moments[name]
            turned = of.into(gradient_NIO)  # zero of a matrix without bases, so that it does not move
            of.first.lerp_(turned, 1 - k.beta1)
            of.second.lerp_(turned.square(), 1 - k.beta2)
            rate = k.lr * scale * self.multipliers[name]
            of.steps += of.steps > 0
            own = (of.steps - 1).clamp(min=1)  # since its bases were made
            corrected = rate * (1 - k.beta2**own).sqrt() / (1 - k.beta1**own)
            update_NIO = of.out_of(of.first / of.second.sqrt().add_(k.eps)) * corrected
            p.view_as(update_NIO).mul_(1 - rate * k.weight_decay * (of.steps > 0)).sub_(update_NIO)
            of.look_at(gradient_NIO, k.beta2)
            if step and step % k.every == 0:
                of.move()
            of.begin(gradient_NIO)

    def state(self) -> dict[str, Tensor]:
        found = {f"soap.{what}.{name}": t for name, of in self.moments.items() for what, t in vars(of).items()}
        return found | {"soap.count": self.count}


class _Moments:
    """A stack's: `first` and `second` (N, I, O) in the bases; factors and bases `left`, `left_basis` (N, I, I), `right`,
    `right_basis` (N, O, O); fp32 `steps` (N, 1, 1) counts from 1 when the bases were made, and is 0 before."""

    def __init__(self, **tensors: Tensor):
        vars(self).update(tensors)

    @staticmethod
    def of(p: Tensor) -> "_Moments":
        stack = p.detach().view(-1, *p.shape[-2:])
        count, inputs, outputs = stack.shape
        names = dict.fromkeys(("first", "second"), (inputs, outputs))
        names |= dict.fromkeys(("left", "left_basis"), (inputs, inputs)) | dict.fromkeys(
            ("right", "right_basis"), (outputs,) * 2
        )
        return _Moments(**{name: stack.new_zeros(count, *shape) for name, shape in (names | {"steps": (1, 1)}).items()})

    def into(self, x_NIO: Tensor) -> Tensor:
        return self.left_basis.mT @ x_NIO @ self.right_basis

    def out_of(self, x_NIO: Tensor) -> Tensor:
        return self.left_basis @ x_NIO @ self.right_basis.mT

    def look_at(self, gradient_NIO: Tensor, beta: float) -> None:
        self.left.lerp_(gradient_NIO @ gradient_NIO.mT, 1 - beta)
        self.right.lerp_(gradient_NIO.mT @ gradient_NIO, 1 - beta)

    def begin(self, gradient_NIO: Tensor) -> None:
        """Makes the bases of matrices that have none and now a gradient."""
        fresh_N = ((self.steps == 0) & (with_gradient(gradient_NIO) > 0)).flatten()
        if fresh_N.any():
            for factor, basis in ((self.left, self.left_basis), (self.right, self.right_basis)):
                steadied = factor[fresh_N] + 1e-30 * torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
                basis[fresh_N] = torch.linalg.eigh(steadied).eigenvectors.flip(-1)  # largest first
            self.steps[fresh_N] = 1

    def move(self) -> None:
        first = self.out_of(self.first)
        for factor, basis, axis in ((self.left, self.left_basis, 1), (self.right, self.right_basis, 2)):
            found = (basis * (factor @ basis)).sum(-2)  # of each vector, what the factor makes of it
            order = found.argsort(dim=-1, descending=True, stable=True)
            self.second.copy_(self.second.take_along_dim(order.unsqueeze(3 - axis), axis))
            found = torch.linalg.qr(factor @ basis.take_along_dim(order.unsqueeze(1), 2)).Q
            basis.copy_(found * (self.steps > 0))
        self.first.copy_(self.into(first))


PART = Soap
