"""Quantized operands on a GPU, and the launches that make them. Nothing is read on the host, so a value that is not finite is
nobody's error: it makes its scale NaN, and with it every sum that the scale enters.

nvfp4's one scale a tensor looks at the whole tensor: with it a row's bits depend on the batch, through the tensor's
largest magnitude alone."""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from kernels import observe
from kernels.hadamard import SIZE, matrix
from kernels.noise import TENSORS
from kernels.precision import Quantization
from kernels.quantize import nvfp4_tensor_scale
from kernels.triton.metadata import Routes
from kernels.triton.quantizers import blocks_kernel, slots_kernel
from kernels.triton.telemetry import note_blocks, note_slots

CODES = torch.float8_e4m3fn
TILE = 64  # outer elements of a quantizer's tile of rows
COLUMNS = 128  # of a tile of slots
SIGNS = sum(1 << c for c in range(SIZE) if matrix()[0, c] < 0)  # Sylvester's first row is all ones


@dataclass(frozen=True)
class Operand:
    """Of rows (R, I) or weights (E, O, I): `values` are bf16 (or fp32) where `scale` is None, else codes with their inner
    dimension contiguous. `scale` (R, I/B) or (E, O/wide, I/B), fp32 for fp8, E4M3 for nvfp4, whose `tensor_scale` (fp32,
    0-dim) the values are divided by. Factors of weight gradients: (P, I), scale (P/16, I)."""

    values: Tensor
    scale: Tensor | None = None
    tensor_scale: Tensor | None = None
    wide: int = 1

    @property
    def quantized(self) -> bool:
        return self.scale is not None


@dataclass(frozen=True)
class Quantizer:
    """Makes operands under one quantization; `dtype` of those that stay as they are."""

    dials: Quantization
    dtype: torch.dtype
    key_4: Tensor

    def rows(self, x_RI: Tensor, operand: str, tensor: str, name_R: Tensor | None = None) -> Operand:
        """In blocks along each row. A `tensor` of `kernels.noise.TENSORS` may be rounded by noise, which counts its rows as
        `name_R` (int64) or by place."""
        if not self.dials.quantizes(operand):
            return Operand(x_RI)
        found = self._blocks(x_RI.unsqueeze(0), 1, tensor, name_R)
        found = Operand(found.values[0], found.scale[0], found.tensor_scale)
        if observe.listening():
            note_blocks(int(self.key_4[3]), tensor, x_RI, found.values, found.scale, found.tensor_scale, 1)
        return found

    def weights(self, w_EIO: Tensor, tensor: str, inner: int) -> Operand:
        """Of a product whose reduction runs over axis `inner` (1 or 2) of the masters `w_EIO`; codes (E, outer, inner)."""
        w_EOI = w_EIO.mT if inner == 1 else w_EIO
        if not self.dials.quantizes("weight"):
            return Operand(w_EOI.to(self.dtype))
        found = self._blocks(w_EOI, self.dials.block if self.dials.weight_blocks == "2d" else 1, tensor)
        if observe.listening():
            note_blocks(int(self.key_4[3]), tensor, w_EOI, found.values, found.scale, found.tensor_scale, found.wide)
        return found

    def _blocks(self, x_EOI: Tensor, wide: int, tensor: str, name_O: Tensor | None = None) -> Operand:
        (experts, outer, inner), block, fp8 = x_EOI.shape, self.dials.block, self.dials.format == "fp8"
        codes = torch.empty(experts, outer, inner, dtype=CODES, device=x_EOI.device)
        scale = codes.new_empty(experts, outer // wide, inner // block, dtype=torch.float32 if fp8 else CODES)
        tensor_scale = None if fp8 else nvfp4_tensor_scale(largest(x_EOI))
        drawn = self._drawn(tensor)
        if codes.numel():
            block_o, block_i = (128, 128) if wide > 1 else (TILE, 128)
            grid = (experts * triton.cdiv(outer, block_o) * triton.cdiv(inner, block_i),)
            blocks_kernel[grid](
                x_EOI, codes, scale, scale if fp8 else tensor_scale, self.key_4, codes if name_O is None else name_O,
                *x_EOI.stride(), outer, INNER=inner, FP8=fp8, CLIP=self.dials.clip, STOCHASTIC=drawn >= 0,
                TENSOR=drawn, NAMED=drawn >= 0 and name_O is not None,
                LENGTH=block, WIDE=wide, BLOCK_O=block_o, BLOCK_I=block_i, num_warps=8,
            )  # fmt: skip
        return Operand(codes, scale, tensor_scale, wide)

    def slots(self, x: Tensor, blocks: Routes, top_k: int, by_token: bool, tensor: str) -> Operand:
        """A factor of a weight gradient in nvfp4; `x` lies by token or by row in expert order. `blocks` are routes in tiles
        of 16 rows. Noise counts slots."""
        tiles, width = blocks.tile_expert_I.numel(), x.shape[1]
        codes = torch.empty(tiles * SIZE, width, dtype=CODES, device=x.device)
        scale = codes.new_empty(tiles, width)
        tile_amax = x.new_zeros(max(1, tiles * triton.cdiv(width, COLUMNS)), dtype=torch.float32)
        tensor_scale = tile_amax  # not read by the survey
        for survey in (True, False):
            drawn = -1 if survey else self._drawn(tensor)
            if codes.numel():
                slots_kernel[(tile_amax.numel(),)](
                    x, codes, scale, tile_amax, tensor_scale, self.key_4,
                    blocks.row_R, blocks.start_E1, blocks.tile_expert_I, blocks.tile_row_I,
                    WIDTH=width, K=top_k, BY_TOKEN=by_token, HADAMARD=self.dials.hadamard, SIGNS=SIGNS,
                    CLIP=self.dials.clip, STOCHASTIC=drawn >= 0, TENSOR=drawn,
                    SURVEY=survey, BLOCK_I=COLUMNS, num_warps=4,
                )  # fmt: skip
            if survey:
                tensor_scale = nvfp4_tensor_scale(tile_amax.amax())
        if observe.listening() and tiles:
            token_R = blocks.row_R // top_k if by_token else None
            note_slots(int(self.key_4[3]), tensor, x, codes, scale, tensor_scale, blocks, token_R, self.dials.hadamard)
        return Operand(codes, scale, tensor_scale)

    def _drawn(self, tensor: str) -> int:
        """The place in TENSORS of one that is rounded by noise, else -1."""
        return TENSORS.index(tensor) if self.dials.stochastic_rounding and tensor in TENSORS else -1


def largest(x: Tensor) -> Tensor:
    """fp32 0-dim: the largest magnitude, NaN if there is one; 0 for no elements."""
    if not x.numel():
        return torch.zeros((), device=x.device)
    low, high = torch.aminmax(x)
    return torch.maximum(high, -low).float()
