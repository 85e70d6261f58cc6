"""How a step's sums are taken over its micro-batches and over ranks: `parallel.sums`.

ranks: a rank sums over its stretch of the step, and once a step the sums are added over ranks by the library that carries them.
Bits depend on how many ranks there are.

units: the micro-batch is the unit of arithmetic. The units of a step are numbered. In round j the P ranks take the units jP to
jP + P - 1, one each, and whoever computes a unit computes it alone, in the same shapes. Every sum over units is a left fold in
the order of units, done by one rank, which keeps the first part as it is (0 + -0.0 would be 0.0). From rank to rank numbers are
copied; only whole ones are added on the way, and the largest score is found there. So no bit depends on P, nor on the library.
Gradient norms are of slices in fp64, which is their definition whatever P is: what is clipped, and the chain, are others than
those of sums over ranks in one process with the same micro-batches, whose weights an unclipped run has.

Letters: P ranks, K scalars of a unit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter

import torch
from torch import Tensor, nn

from harness.model.feedforward import Experts
from harness.model.init import owned
from harness.model.transformer import Transformer
from harness.model.transport import Elsewhere
from harness.optim.norms import PLAIN, Squares
from harness.optim.optimizer import Optimizer
from harness.ranks import ALONE, Ranks
from kernels import NonFiniteOperand
from kernels.units import InUnit

AT_ONCE = 1 << 24  # gradient numbers that travel together at least, or all that are left: 64 MiB
Scalars = dict[str, Tensor]  # fp32 (), by name


class RankSums:
    load_apart = False
    squares = PLAIN

    def __init__(self, ranks: Ranks, model: Transformer, optimizer: Optimizer):
        self.ranks, self.optimizer = ranks, optimizer

    def slices(self, units: int) -> list[tuple[int, int]]:
        """What this rank reads of a step of so many micro-batches, in order: (which, of how many equal parts)."""
        return [(self.ranks.rank, self.ranks.world)]

    def numbers(self, units: int) -> range:
        """Which of the step's micro-batches that is."""
        share = units // self.ranks.world
        return range(self.ranks.rank * share, (self.ranks.rank + 1) * share)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around the passes of a micro-batch."""
        yield

    def add(self, totals: Scalars, part: Scalars) -> Scalars:
        """After the backward pass of a micro-batch: `totals` with its scalars. Its gradients autograd has added."""
        return _added(totals, part)

    def finish(self, totals: Scalars) -> None:
        """Makes gradients and scalars, "loss" among them, those of the whole step on every rank."""
        self.ranks.sum_([p.grad for p in self.optimizer.parameters.values()])
        self.ranks.sum_([totals["loss"]])
        self.ranks.sum_([total for name, total in totals.items() if name != "loss"])

    def norms(self) -> Tensor:
        """fp32 (parameters,) on the device: of the step's gradients, in the order of the optimizer's parameters."""
        return self.optimizer.gradient_norms()


class UnitSums:
    """As `RankSums`, which says what each method is for."""

    def __init__(self, ranks: Ranks, model: Transformer, optimizer: Optimizer):
        self.ranks, self.optimizer = ranks, optimizer
        stacks = frozenset(name for name, _, _, own in owned(model) if own.by_expert)
        self.spread = [part for part in model.modules() if isinstance(part, Experts) and part.transport.spread]
        self.squares = Squares(stacks, ranks if self.spread else ALONE)
        # What a rank has alone it sums alone, in its transport.
        everywhere = [p for name, p in optimizer.parameters.items() if not self.spread or name not in stacks]
        self.buckets = _buckets(everywhere)
        self.sums: list[Tensor | None] = [None] * len(self.buckets)  # of each, over the units so far: this rank's part
        # Where one rank may find a fault that ends the run, the others hear of it before they wait for something else.
        self.load_apart = bool(model.quantizing) and ranks.world > 1

    def slices(self, units: int) -> list[tuple[int, int]]:
        return [(number, units) for number in self.numbers(units)]

    def numbers(self, units: int) -> range:
        return range(self.ranks.rank, units, self.ranks.world)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raises: NonFiniteOperand on every rank, that of the round's first unit which has one, as one process meets it."""
        found, heard = None, False
        try:
            yield
        except NonFiniteOperand as fault:
            found = fault
        except Elsewhere:
            heard = True
        faults = [found]
        if self.load_apart:
            if self.spread and not heard:
                self._tell(found is not None)
            faults = self.ranks.everyones_values(found and (self._unit_of(found), (found.layer, found.tensor, found.step)))
            faults = [NonFiniteOperand(*place) for _, place in sorted(filter(None, faults), key=itemgetter(0))]
        for fault in filter(None, faults):
            raise fault

    def _unit_of(self, fault: NonFiniteOperand) -> int:
        """In whose unit of this round: an owner of experts finds it in others' rows."""
        return fault.unit if isinstance(fault, InUnit) else self.ranks.rank

    def _tell(self, stopped: bool) -> None:
        """The exchange after this rank's last one of a unit's passes: they have ended, or it has `stopped`."""
        try:
            self.spread[0].transport.meet(None, stopped)
        except Elsewhere:
            pass

    @torch.no_grad()
    def add(self, totals: Scalars, part: Scalars) -> Scalars:
        self._fold_gradients()
        for unit_K in self.ranks.everyones(torch.stack([*part.values()])):
            totals = _added(totals, dict(zip(part, unit_K)))
        return totals

    def _fold_gradients(self) -> None:
        """Takes the round's gradients off the parameters and adds them to the sums, each rank a part of every bucket. In one
        process autograd's own accumulation is that fold."""
        if self.ranks.world == 1:
            return
        for at, bucket in enumerate(self.buckets):
            units_PN = self.ranks.exchange(_cut([p.grad for p in bucket], self.ranks.world))
            for p in bucket:
                p.grad = None
            first, *others = units_PN
            total = self.sums[at]
            self.sums[at] = total = first.clone() if total is None else total.add_(first)
            for other in others:
                total.add_(other)

    @torch.no_grad()
    def finish(self, totals: Scalars) -> None:
        for part in self.spread:
            part.up.grad, part.down.grad = part.transport.take_gradients()
        if self.ranks.world == 1:
            return
        for at, bucket in enumerate(self.buckets):
            numbers = self.ranks.everyones(self.sums[at]).flatten()[: sum(p.numel() for p in bucket)]
            for p, part in zip(bucket, numbers.split([p.numel() for p in bucket])):
                p.grad = part.view_as(p).clone()
            self.sums[at] = None

    @torch.no_grad()
    def norms(self) -> Tensor:
        """In fp64 and by slices (`harness/optim/norms.py`)."""
        return self.squares.norms({name: p.grad for name, p in self.optimizer.parameters.items()})


KINDS = {"ranks": RankSums, "units": UnitSums}


def _added(totals: Scalars, part: Scalars) -> Scalars:
    return {name: totals[name] + value if name in totals else value for name, value in part.items()}


def _buckets(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """In their order, neighbours together until they have AT_ONCE numbers."""
    buckets: list[list[nn.Parameter]] = []
    left = 0
    for p in parameters:
        if left <= 0:
            buckets.append([])
            left = AT_ONCE
        buckets[-1].append(p)
        left -= p.numel()
    return buckets


def _cut(gradients: list[Tensor], parts: int) -> Tensor:
    """(parts, N) of all their numbers in order, zeros behind them."""
    flat = [gradient.reshape(-1) for gradient in gradients]
    missing = -sum(each.numel() for each in flat) % parts
    return torch.cat([*flat, flat[0].new_zeros(missing)]).view(parts, -1)
