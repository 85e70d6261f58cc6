"""Muon: momentum, then the nearest semi-orthogonal matrix, for matrices and stacks of expert matrices.

Letters: N matrices of a stack, I input and O output dimension (weights are stored input first). The iteration is that of
`harness/optim/polar.py`. The update is scaled by sqrt(max(1, O/I)), so that its spectral norm follows the shape. A matrix whose
gradient is zero throughout, as that of an expert without tokens, keeps its momentum and is not moved: momentum alone, made
orthogonal, would move it at full speed.

Dials: other polynomials (Polar Express, arXiv 2505.16932); another count of iterations for experts; the Gram form where it is
counted cheaper; the update's size evened out over neurons (NorMuon, arXiv 2510.05491); weight decay where the update shrinks a
weight too (cautious, arXiv 2510.12402); a momentum that rises; idle matrices that move on.

Where kernels in C++ run (`kernels/cpu/brgemm`), a matrix goes through all of a step in one core's cache, unless a dial needs
the update itself or the Gram form, which that kernel has not. Elsewhere all matrices of one shape are iterated as one stack,
256 at a time. Products run in the dtype of the plan's products: bf16 where that is native. On two AMX cores with torch 2.13 a
stack of 64 matrices of 128 x 256 took 7.7 ms in bf16 and 24.8 in fp32.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.optim.optimizers import Update, with_gradient
from harness.optim.polar import Coefficients, orthogonalize, polynomials, segments
from kernels.cpu.brgemm import calls

AT_ONCE = 256  # matrices of a stack: 2,816 of 768 x 768 would take some 25 GB beside themselves (counted, not measured)


class Muon(Update):
    """`parameters`: {name: matrix (I, O) or stack (N, I, O)}."""

    def __init__(
        self, parameters: dict[str, nn.Parameter], multipliers: dict[str, float], keys: Any, dtype: torch.dtype = torch.float32
    ):
        super().__init__(parameters, multipliers, keys, dtype)
        self.momentum = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.second = {name: self._of_neurons(p) for name, p in parameters.items()} if keys.neurons != "off" else {}
        self.count = torch.zeros((), dtype=torch.int64) if keys.start_momentum else None  # on the host, which reads it
        self.stacks: dict[tuple[int, int, int], list[str]] = {}
        for name, p in parameters.items():
            steps = keys.expert_steps if p.ndim == 3 and keys.expert_steps else keys.newton_schulz_steps
            self.stacks.setdefault((*p.shape[-2:], steps), []).append(name)

    def _of_neurons(self, p: Tensor) -> Tensor:
        """Zeros (N, 1, O), one an output neuron, or (N, I, 1), one an input neuron; weights are stored input first."""
        stack = _stack(p)
        return stack.new_zeros(stack.mean(1 if self.keys.neurons == "outputs" else 2, keepdim=True).shape)

    @property
    def whole(self) -> bool:
        """Whether a step is what the kernel in C++ does: no dial needs the update between iteration and weights."""
        k = self.keys
        return k.neurons == "off" and not k.cautious and k.idle == "rests"

    @torch.no_grad()
    def step(self, scale: float) -> None:
        mu = self._momentum()
        for (rows, columns, steps), names in self.stacks.items():
            gain = self.keys.lr * scale * max(1.0, columns / rows) ** 0.5
            rates = [gain * self.multipliers[name] for name in names]
            keeps = [1 - self.keys.lr * scale * self.multipliers[name] * self.keys.weight_decay for name in names]
            coefficients = polynomials(self.keys.iteration, steps)
            lengths = self.segments(rows, columns, steps)
            if self.backend == "brgemm" and self.whole and not lengths and calls.takes_muon(rows, columns):
                self._fused(names, rates, keeps, mu, coefficients)
            else:
                self._stacked(names, rates, keeps, mu, coefficients, lengths)

    def segments(self, rows: int, columns: int, steps: int) -> list[int]:
        """How many iterations of a stack go together in the Gram form; none where it is iterated directly."""
        return segments(self.keys.form, min(rows, columns), max(rows, columns), steps, self.dtype)

    def _momentum(self) -> float:
        """This step's, which it counts."""
        k = self.keys
        if self.count is None:
            return k.momentum
        done = int(self.count)
        self.count += 1
        return k.start_momentum + (k.momentum - k.start_momentum) * min(1.0, done / k.start_steps)

    def _fused(
        self, names: list[str], rates: list[float], keeps: list[float], mu: float, coefficients: list[Coefficients]
    ) -> None:
        weights = [self.parameters[name] for name in names]
        gradients = [p.grad.contiguous() for p in weights]
        momenta = [self.momentum[name] for name in names]
        calls.muon(weights, gradients, momenta, rates, keeps, mu, coefficients, self.dtype)

    def _stacked(
        self, names: list[str], rates: list[float], keeps: list[float], mu: float, coefficients: list[Coefficients],
        lengths: list[int],
    ) -> None:  # fmt: skip
        """At most AT_ONCE matrices at a time, which bounds what the iteration holds beside weights and momenta."""
        pieces: list[_Piece] = []
        for name, rate, keep in zip(names, rates, keeps):
            p = self.parameters[name]
            second = self.second.get(name, self.momentum[name])
            stacks = zip(*(_stack(t).split(AT_ONCE) for t in (p, p.grad, self.momentum[name], second)))
            for piece in (_Piece(*tensors, rate, keep) for tensors in stacks):
                if pieces and sum(len(it.weight_NIO) for it in (*pieces, piece)) > AT_ONCE:
                    self._move(pieces, mu, coefficients, lengths)
                    pieces = []
                pieces.append(piece)
        self._move(pieces, mu, coefficients, lengths)

    def _move(self, pieces: "list[_Piece]", mu: float, coefficients: list[Coefficients], lengths: list[int]) -> None:
        nesterov, moved, rests = [], [], self.keys.idle == "rests"
        for it in pieces:
            moved_N11 = with_gradient(it.gradient_NIO) if rests else it.gradient_NIO.new_ones(len(it.gradient_NIO), 1, 1)
            it.momentum_NIO.lerp_(it.gradient_NIO, (1 - mu) * moved_N11)
            nesterov.append(it.gradient_NIO.lerp(it.momentum_NIO, mu))
            moved.append(moved_N11)
        update = orthogonalize(torch.cat(nesterov), coefficients, self.dtype, lengths)
        for it, part, moved_N11 in zip(pieces, update.split([len(n) for n in nesterov]), moved):
            if self.second:
                part = self._evened(part, it.second, moved_N11)
            part = part * moved_N11
            if self.keys.cautious:
                it.weight_NIO.mul_(torch.where(part * it.weight_NIO >= 0, it.keep, 1.0))
            elif it.keep != 1.0:
                it.weight_NIO.mul_(it.keep)
            it.weight_NIO.add_(part, alpha=-it.rate)

    def _evened(self, update_NIO: Tensor, second: Tensor, moved_N11: Tensor) -> Tensor:
        """The update over the root of its second moment, at the Frobenius norm it had."""
        found = update_NIO.square().mean(1 if self.keys.neurons == "outputs" else 2, keepdim=True)
        second.lerp_(found, (1 - self.keys.beta2) * moved_N11)
        evened = update_NIO / second.clamp(min=1e-10).sqrt()
        before, after = (t.norm(dim=(1, 2), keepdim=True) for t in (update_NIO, evened))
        return evened * (before / after.clamp(min=1e-10))

    def state(self) -> dict[str, Tensor]:
        found = {f"muon.momentum.{name}": tensor for name, tensor in self.momentum.items()}
        found |= {f"muon.second.{name}": tensor for name, tensor in self.second.items()}
        return found if self.count is None else found | {"muon.count": self.count}


class _Piece(NamedTuple):
    """Views of some matrices of one parameter; `rate` and `keep`: what the update and the weights are multiplied by."""

    weight_NIO: Tensor
    gradient_NIO: Tensor
    momentum_NIO: Tensor
    second: Tensor  # of neurons; without that dial not looked at
    rate: float
    keep: float


def _stack(x: Tensor) -> Tensor:
    """(N, I, O), a view; a matrix as a stack of one."""
    return x.view(-1, *x.shape[-2:])


PART = Muon
