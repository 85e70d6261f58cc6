"""Rows that several units have for the owner of some experts: inputs of `kernels.units`, and a forward and backward of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from kernels import Precision
from kernels.activation import ACTIVATIONS
from kernels.units import Layer, OfUnits, Totals

FULL = Precision.of("full")
NAMES = ("y", "dx", "dweight", "up", "down")


class Owned(NamedTuple):
    """x_RD, both weights, count_PN, weight_R and dy_RD; `layer`."""

    x_RD: Tensor
    w_up_NDG: Tensor
    w_down_NFD: Tensor
    count_PN: Tensor
    weight_R: Tensor
    dy_RD: Tensor
    layer: Layer

    def to(self, device: str) -> "Owned":
        return Owned(*(t.to(device) for t in self[:6]), self.layer)


def owned(counts, width, expert_width, activation, precision=FULL, seed=0, key_4=None) -> Owned:
    """Random ones, of about unit size; `counts` of units and, within them, of experts."""
    draws = torch.Generator().manual_seed(seed)
    count_PN = torch.tensor(counts)
    rows, held, fan = int(count_PN.sum()), count_PN.shape[1], ACTIVATIONS[activation].fan
    operand, weight_operand = precision.arithmetic.operand, precision.weight_operand
    return Owned(
        operand(torch.randn(rows, width, generator=draws)),
        weight_operand(torch.randn(held, width, fan * expert_width, generator=draws) / width**0.5),
        weight_operand(torch.randn(held, expert_width, width, generator=draws) / expert_width**0.5),
        count_PN,
        torch.rand(rows, generator=draws),
        operand(torch.randn(rows, width, generator=draws)),
        Layer(ACTIVATIONS[activation], precision, key_4, held, 1),
    )


def totals_before(it: Owned, seed: int = 1) -> Totals:
    """Of some unit size, with -0.0 here and there."""
    draws = torch.Generator().manual_seed(seed)
    found = tuple(torch.randn(w.shape, generator=draws).to(w.device) for w in (it.w_up_NDG, it.w_down_NFD))
    for total in found:
        total[..., ::3] = -0.0
    return found


def passes(way: OfUnits, it: Owned, totals: Totals | None) -> dict[str, Tensor]:
    """What a forward and a backward return, by NAMES; `totals` are left as they are."""
    *inputs, dy_RD, layer = it
    totals = totals and tuple(t.clone() for t in totals)
    y_RD, *kept = way.forward(*inputs, layer)
    dx_RD, dweight_R, after = way.backward(dy_RD, *inputs, layer, totals, *kept)
    assert totals is None or all(a is b for a, b in zip(totals, after)), "totals are written in place"
    return dict(zip(NAMES, (y_RD, dx_RD, dweight_R, *after)))


def other_bytes(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """The names of what differs: 0.0 and -0.0 do."""
    return [name for name in a if not same_bytes(a[name], b[name])]


def same_bytes(a: Tensor, b: Tensor) -> bool:
    alike = (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
    return alike and torch.equal(*(t.contiguous().view(torch.uint8) for t in (a, b)))
