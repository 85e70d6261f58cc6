"""What a call on some of a micro-batch's rows must be told of all of them, for the bits of one call on all.

A format with a scale of the whole tensor needs the largest magnitude of rows that are elsewhere; noise is counted by token, row
and slot as the whole micro-batch numbers them. Letters: S rows of this call, T tokens and K top-k of the micro-batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.precision import Quantization
from kernels.routing import ROW_MULTIPLE


@dataclass(frozen=True)
class Beside:
    """`row_S`: int64, which row (t*K + k) of the micro-batch each of these is; `first_slot`: where the slots of the first
    expert of this call stand among those of all experts, as noise counts them; `largest(tensor, found)`: the largest magnitude
    of a tensor over all rows, or all experts, of which this call has `found` (fp32 ())."""

    row_S: Tensor
    top_k: int
    first_slot: int
    largest: Callable[[str, Tensor], Tensor]

    @property
    def token_S(self) -> Tensor:
        return self.row_S // self.top_k

    def rows(self, row_P: Tensor) -> Tensor:
        """int64 (P): of slots whose rows this call numbers `row_P`, S in those that hold none."""
        return torch.cat([self.row_S, self.row_S.new_zeros(1)])[row_P]


def looks_beside(dials: Quantization | None) -> bool:
    """Whether a call on some of the rows must be told of the others."""
    return dials is not None and (dials.stochastic_rounding or scales_tensors(dials))


def scales_tensors(dials: Quantization) -> bool:
    """Whether a format has scales of a whole tensor of a layer."""
    return dials.format == "nvfp4" and not dials.by_expert


def noise_slots(count_E: Tensor, block: int) -> Tensor:
    """int64 (E): the slots of each expert as noise counts them, of `count_E` rows: whole blocks, of 16 at least."""
    size = max(block, ROW_MULTIPLE)
    return (count_E + (size - 1)) // size * size
