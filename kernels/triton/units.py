"""One forward and one backward over the rows of several units, with the bits of a call for each: see `kernels.units`.

Letters: R rows, P units, N experts held here, D width, F expert width, G pre-activation width.

Rows are sorted by expert, stably, so that those of an expert stand by unit; `start_U1` (N*P + 1) says where each unit's begin
within each expert's. Products of rows see neither. The weights' gradients are folded by `fold_kernel`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from kernels.triton import expert_mlp
from kernels.triton.configuration import Configuration, Tile
from kernels.triton.metadata import Order
from kernels.triton.weight_gradients import fold_kernel

if TYPE_CHECKING:
    from kernels.units import Layer


class Pooled:
    """`kernels.units.OfUnits` for what `kernels.units.pools`."""

    def forward(self, x_RD, w_up_NDG, w_down_NFD, count_PN, weight_R, layer):
        """Leaves h_RG and where each row lies, by (expert, unit, token, slot)."""
        c = _tiles(x_RD, w_down_NFD, layer)
        tensors = (x_RD, w_up_NDG, w_down_NFD, experts(count_PN, x_RD), weight_R.unsqueeze(1))
        return expert_mlp.forward(*tensors, *layer.how, config=c)

    def backward(self, dy_RD, x_RD, w_up_NDG, w_down_NFD, count_PN, weight_R, layer, totals, *kept):
        c = _tiles(x_RD, w_down_NFD, layer)
        tensors = (dy_RD, x_RD, w_up_NDG, w_down_NFD, experts(count_PN, x_RD), weight_R.unsqueeze(1))
        fold = Fold(starts(count_PN, x_RD.device), len(count_PN), totals)
        dx_RD, *totals, dweight_R1 = expert_mlp.backward(*tensors, *layer.how, *kept, config=c, fold=fold)
        return dx_RD, dweight_R1.view(-1), tuple(totals)


@dataclass
class Fold:
    """Both weights' gradients, added to `totals` (fp32, contiguous), unit by unit; without totals new ones."""

    start_U1: Tensor
    units: int
    totals: tuple[Tensor, Tensor] | None

    def __call__(
        self, x_RD: Tensor, dh_RG: Tensor, a_RF: Tensor, dy_RD: Tensor, found: Order, c: Configuration
    ) -> tuple[Tensor, Tensor]:
        up, down = self.totals or (None, None)
        place = (found.row_R, self.start_U1, self.units)
        return (
            folded(x_RD, dh_RG, *place, True, up, c.dw_rows, c.fold_up),
            folded(a_RF, dy_RD, *place, False, down, c.dw_rows, c.fold_down),
        )


def folded(
    left: Tensor, right: Tensor, row_R: Tensor, start_U1: Tensor, units: int, gather_left: bool, total_NIO: Tensor | None,
    block_rows: int, tile: Tile,
) -> Tensor:  # fmt: skip
    """`total_NIO` with left^T @ right over the rows of each unit; one of the two lies as rows came, the other by expert."""
    inputs, outputs, experts = left.shape[1], right.shape[1], (start_U1.numel() - 1) // units
    add = total_NIO is not None
    if not add:
        total_NIO = left.new_empty(experts, inputs, outputs, dtype=torch.float32)
    assert total_NIO.is_contiguous() and total_NIO.dtype == torch.float32
    assert total_NIO.shape == (experts, inputs, outputs), total_NIO.shape
    fold_kernel[(experts * triton.cdiv(inputs, block_rows) * triton.cdiv(outputs, tile.columns),)](
        left, right, total_NIO, row_R, start_U1, units, INPUTS=inputs, OUTPUTS=outputs, K=1, GATHER_LEFT=gather_left, ADD=add,
        BLOCK_I=block_rows, BLOCK_O=tile.columns, **tile.launch,
    )  # fmt: skip
    return total_NIO


def experts(count_PN: Tensor, x_RD: Tensor) -> Tensor:
    """int64 (R, 1): the expert of each row as it came. Does not wait for the device where the counts are there, or pinned."""
    units, held = count_PN.shape
    id_PN = torch.arange(held, device=x_RD.device).repeat(units)
    count = count_PN.reshape(-1).to(x_RD.device, non_blocking=True)
    return id_PN.repeat_interleave(count, output_size=len(x_RD)).unsqueeze(1)


def starts(count_PN: Tensor, device: torch.device) -> Tensor:
    """int64 (N*P + 1): where the rows of each expert begin and, within them, those of each unit."""
    count = count_PN.to(device, non_blocking=True).t().reshape(-1)
    return torch.nn.functional.pad(count.cumsum(0), (1, 0))


def _tiles(x_RD: Tensor, w_down_NFD: Tensor, layer: "Layer") -> Configuration:
    """Those that one process with all experts would take: the table has other tiles for other numbers of experts, and the inner
    elements of a tile decide about bits."""
    make = expert_mlp.quantizer(layer.precision, None, x_RD.device)
    shape = (layer.experts, *w_down_NFD.shape[1:])
    return expert_mlp.configured(x_RD, shape, layer.top_k, layer.activation, make.kind)
