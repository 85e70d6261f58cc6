"""What the owner of some experts does with the rows that several units have for them, and the gradients of its weights as a
fold over units.

Letters: R rows, P units, N experts held here, D width, F expert width, G pre-activation width.

A unit is a micro-batch, whoever read it. Rows stand by (unit, expert, token, slot), each for one expert, and count_PN says how
many of them there are: no id is needed. What comes back stands in the same order.

| what | its bits |
|---|---|
| y, dx, dweight of a row | those of any call that holds the row: they depend on itself and its expert |
| the gradient of a weight | for each unit in order, total = total + dW in fp32, where dW is what the backend makes of that unit's rows, in the dtype of its gradients; without a total before, the first dW is kept as it is, -0.0 included |
| the same, of an expert or a unit without rows | dW is 0.0 everywhere and is added too, so that a total of -0.0 becomes 0.0, as in one process that has all experts |

`BySource` is the definition: a call for each unit. `kernels.triton.units.Pooled` has the same bits from one call for all of
them, for which rows are sorted by (expert, unit, token, slot). It makes that order itself, as indices: x and dy stay where they
are and are gathered, and the totals are read and written once for all units.
"""  # noqa: E501

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kernels.activation import Activation
from kernels.backends import OPERATORS, Backend
from kernels.beside import Beside, looks_beside
from kernels.cpu.operands import NonFiniteOperand
from kernels.precision import Precision

Totals = tuple[Tensor, Tensor]  # (N, D, G) and (N, F, D), fp32, contiguous


class Layer(NamedTuple):
    """`key_4` as in `kernels.moe_mlp`; `experts` and `top_k` of the layer, whoever holds them: a GPU's tiles are chosen by
    these, and tiles decide about bits. `places`: where a format looks beside the rows that are here, the key of each unit and
    what its rows stand beside; `all_meet`: the owners find something together of every unit, with no rows of it too."""

    activation: Activation
    precision: Precision
    key_4: Tensor | None
    experts: int
    top_k: int
    places: Callable[[int], tuple[Tensor, Beside]] | None = None
    all_meet: bool = False

    @property
    def how(self) -> tuple[Activation, Precision, Tensor | None]:
        """What a backend's passes end with."""
        return self.activation, self.precision, self.key_4

    def how_of(self, unit: int) -> tuple[Activation, Precision, Tensor | None, Beside | None]:
        key_4, beside = (self.key_4, None) if self.places is None else self.places(unit)
        return self.activation, self.precision, key_4, beside


class InUnit(NonFiniteOperand):
    """Found in the rows of `unit`."""

    def __init__(self, found: NonFiniteOperand, unit: int):
        super().__init__(found.layer, found.tensor, found.step)
        self.unit = unit


@contextmanager
def _of_unit(unit: int) -> Iterator[None]:
    try:
        yield
    except NonFiniteOperand as found:
        raise InUnit(found, unit) from found


class OfUnits(Protocol):
    def forward(
        self, x_RD: Tensor, w_up_NDG: Tensor, w_down_NFD: Tensor, count_PN: Tensor, weight_R: Tensor, layer: Layer
    ) -> tuple[Tensor, ...]:
        """y_RD in fp32, each row times its routing weight; and what the backward needs: as many tensors, of the same dtypes, as
        the backend's own forward leaves.

        `x_RD` and weights as a `Backend` takes them; count_PN int64, on any device; weight_R fp32.

        Raises:
            InUnit: a value of a unit's rows is not finite, and the format takes no such value.
        """

    def backward(
        self, dy_RD: Tensor, x_RD: Tensor, w_up_NDG: Tensor, w_down_NFD: Tensor, count_PN: Tensor, weight_R: Tensor,
        layer: Layer, totals: Totals | None, *kept: Tensor,
    ) -> tuple[Tensor, Tensor, Totals]:  # fmt: skip
        """dx_RD and dweight_R, both fp32, and the totals with these units': `totals`, written in place, or without one new
        tensors. `dy_RD` as a `Backend` takes it; `kept`: what `forward` returned beside y."""


def of_units(backend: str, precision: Precision) -> OfUnits:
    """Who does it: one call for all units where that has the bits of a call for each. `backend` of `OPERATORS`."""
    if backend == "triton" and pools(precision):
        from kernels.triton.units import Pooled  # where it is asked for: a machine without a GPU need not have it

        return Pooled()
    return BySource(OPERATORS[backend])


def pools(precision: Precision) -> bool:
    """Whether neither a row's codes nor the factors of weight gradients see the rows beside them: scales of a tensor or of an
    expert do, noise counts the rows of a call, and factors are quantized in blocks of rows."""
    q = precision.quantization
    return q is None or not (looks_beside(q) or q.by_expert or q.quantizes("weight_gradient"))


class BySource:
    """One call of a backend for each unit that has rows, or, where the owners find something together, for each."""

    def __init__(self, it: Backend):
        self.it = it

    def forward(self, x_RD, w_up_NDG, w_down_NFD, count_PN, weight_R, layer):
        found = []
        for unit, (expert_S1, x, weight) in enumerate(self._units(count_PN, x_RD, weight_R)):
            if len(x) or layer.all_meet:
                tensors = (x, w_up_NDG, w_down_NFD, expert_S1, weight.unsqueeze(1))
                with _of_unit(unit):
                    found.append(self.it.forward(*tensors, *layer.how_of(unit)))
        if found:
            return tuple(map(torch.cat, zip(*found)))
        h_PG = x_RD.new_empty(0, w_up_NDG.shape[2], dtype=layer.precision.arithmetic.dtype)
        kept = self.it.kept(0, 1, len(w_up_NDG))
        return x_RD.float(), h_PG, *(torch.empty(0, *shape[1:], dtype=torch.int64, device=x_RD.device) for shape in kept)

    def backward(self, dy_RD, x_RD, w_up_NDG, w_down_NFD, count_PN, weight_R, layer, totals, *kept):
        dxs, dweights = [torch.empty_like(x_RD[:0], dtype=torch.float32)], [weight_R.new_empty(0, dtype=torch.float32)]
        units = self._units(count_PN, dy_RD, x_RD, weight_R)
        for unit, ((expert_S1, dy, x, weight), left) in enumerate(zip(units, self._left(count_PN, kept))):
            if len(x) or layer.all_meet:
                *how, beside = layer.how_of(unit)
                tensors = (dy, x, w_up_NDG, w_down_NFD, expert_S1, weight.unsqueeze(1))
                with _of_unit(unit):
                    dx, *parts, dweight = self.it.backward(*tensors, *how, *left, beside=beside)
                dxs.append(dx)
                dweights.append(dweight.view(-1))
            else:
                parts = [torch.zeros_like(w, dtype=torch.float32) for w in (w_up_NDG, w_down_NFD)]
            totals = fold(totals, *parts)
        return torch.cat(dxs), torch.cat(dweights), totals

    def _units(self, count_PN: Tensor, *tensors_R: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """For each unit its rows' experts, int64 (S, 1), and its rows of every tensor."""
        rows_P = count_PN.sum(1).tolist()
        id_PN = torch.arange(count_PN.shape[1]).repeat(len(rows_P))
        expert_R1 = id_PN.repeat_interleave(count_PN.reshape(-1).cpu()).unsqueeze(1)
        return zip(*(t.split(rows_P) for t in (expert_R1.to(tensors_R[0].device), *tensors_R)))

    def _left(self, count_PN: Tensor, kept: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
        """For each unit its part of what the forward left."""
        experts = count_PN.shape[1]
        sizes = [
            [self.it.saved_rows(rows, experts), *(shape[0] for shape in self.it.kept(rows, 1, experts))]
            if rows
            else [0] * len(kept)
            for rows in count_PN.sum(1).tolist()
        ]
        return zip(*(t.split(list(of_units)) for t, of_units in zip(kept, zip(*sizes))))


def fold(totals: Totals | None, up_NDG: Tensor, down_NFD: Tensor) -> Totals:
    """`totals` and the gradients of one unit, which are the caller's no longer."""
    if totals is None:
        return up_NDG.float(), down_NFD.float()
    for total, part in zip(totals, (up_NDG, down_NFD)):
        total.add_(part.float())
    return totals
