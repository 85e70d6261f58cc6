"""Operands on a GPU, plain or quantized, and the launches that make them. Nothing is read on the host, so a value that is not
finite is nobody's error: it makes its scale NaN, and with it every sum that the scale enters.

nvfp4's tensor scale looks at the whole tensor, or at all that an expert has of it: with it a row's bits depend on the
batch, through the largest magnitude there alone."""

from dataclasses import dataclass, replace

import torch
import triton
from torch import Tensor

from kernels import observe
from kernels.formats import E2M1
from kernels.hadamard import SIZE, matrix
from kernels.noise import TENSORS
from kernels.precision import MX, Quantization
from kernels.quantize import nvfp4_tensor_scale
from kernels.triton.metadata import Routes
from kernels.triton.quantizers import blocks_kernel, maxima_kernel, slots_kernel, tiles_kernel
from kernels.triton.telemetry import note_blocks, note_slots

CODES = torch.float8_e4m3fn
SCALES = {"fp8": torch.float32, "nvfp4": torch.float8_e4m3fn} | dict.fromkeys(MX, torch.float8_e8m0fnu)
TILE = 64  # outer elements of a quantizer's tile of rows
COLUMNS = 128  # of a tile of slots
SIGNS = sum(1 << c for c in range(SIZE) if matrix()[0, c] < 0)  # Sylvester's first row is all ones


@dataclass(frozen=True)
class Operand:
    """The codes of rows (R, I) or weights (E, O, I): `values` are bf16 (or fp32) where `scale` is None, else codes with their
    inner dimension contiguous. `scale` (R, I/B) or (E, O/wide, I/B), fp32 for fp8, E8M0 for MX, E4M3 for nvfp4, whose
    `tensor_scale` (fp32, 0-dim or (E)) the values are divided by. Factors of weight gradients: (P, I), scale (P/16, I), of MX
    (P/32, I); fp8 (P/128, I, 128), scale (P/128, I). `by_row`: what would lie by token lies by row, in expert order. `packed`:
    two E2M1 codes a byte of the inner dimension. `by_column`: a factor lies (I, P), scale (I, P/B)."""

    values: Tensor
    scale: Tensor | None = None
    tensor_scale: Tensor | None = None
    wide: int = 1
    by_row: bool = False
    packed: bool = False
    by_column: bool = False

    @property
    def quantized(self) -> bool:
        return self.scale is not None

    @property
    def inner(self) -> int:
        """Elements of the last axis."""
        return self.values.shape[-1] * (2 if self.packed else 1)

    def codes(self) -> Tensor:
        """One value of the format an element."""
        if not self.packed:
            return self.values
        return E2M1.decode(torch.stack((self.values & 15, self.values >> 4), -1).flatten(-2))


@dataclass(frozen=True)
class Quantizer:
    """Makes operands, quantized where `dials` say so; `dtype` of those that stay as they are."""

    dials: Quantization | None
    dtype: torch.dtype
    key_4: Tensor | None = None
    native: bool = False  # what the tensor cores take with their block scales: see `kernels.triton.blockscaled`

    @property
    def kind(self) -> str:
        return kind(self.format, self.native)

    @property
    def packs(self) -> bool:
        return self.native and self.format != "mxfp8"

    @property
    def format(self) -> str:
        """One of `kernels.precision.FORMATS`, or "" where nothing is quantized."""
        return self.dials.format if self.dials else ""

    @property
    def block(self) -> int:
        return self.dials.block if self.dials else 1

    @property
    def by_expert(self) -> bool:
        return self.dials is not None and self.dials.by_expert

    def quantizes(self, operand: str) -> bool:
        return self.dials is not None and self.dials.quantizes(operand)

    def rows(self, x_RI: Tensor, operand: str, tensor: str, where: Routes, name_R: Tensor | None = None) -> Operand:
        """In blocks along each row. A `tensor` of `kernels.noise.TENSORS` may be rounded by noise, which counts its rows as
        `name_R` (int64) or by place. Tensor scales of experts need rows in expert order."""
        if not self.quantizes(operand):
            return Operand(x_RI)
        expert_R = tensor_scale_E = None
        if self.by_expert:
            place_R = torch.arange(len(x_RI), device=x_RI.device)
            expert_R = torch.searchsorted(where.start_E1[1:], place_R, right=True)  # of dropped rows any: nobody reads them
            tensor_scale_E = nvfp4_tensor_scale(by_expert(largest(x_RI, 1), where.start_E1))
        found = self._blocks(x_RI.unsqueeze(0), 1, tensor, name_R, tensor_scale_E, expert_R)
        found = replace(found, values=found.values[0], scale=found.scale[0])
        if observe.listening():
            divisor = found.tensor_scale if expert_R is None else tensor_scale_E[expert_R].unsqueeze(1)
            note_blocks(self.format, int(self.key_4[3]), tensor, x_RI, found.codes(), found.scale, divisor, 1)
        return found

    def rows_of_tokens(self, x_TD: Tensor, operand: str, tensor: str, where: Routes, top_k: int) -> Operand:
        """By token or, under tensor scales of experts, by row: R * D codes, not T * D. Noise counts tokens either way."""
        if not (self.by_expert and self.quantizes(operand)):
            return self.rows(x_TD, operand, tensor, where)
        token_R = where.row_R // top_k
        x_RD = x_TD.index_select(0, token_R)
        if observe.listening():  # a figure of the whole tensor leaves dropped rows out
            dropped_R = torch.arange(len(x_RD), device=x_RD.device) < where.start_E1[0]
            x_RD = x_RD.masked_fill(dropped_R.unsqueeze(1), 0.0)
        return replace(self.rows(x_RD, operand, tensor, where, token_R), by_row=True)

    def weights(self, w_EIO: Tensor, tensor: str, inner: int) -> Operand:
        """(E, outer, inner), of a product whose reduction runs over axis `inner` (1 or 2) of `w_EIO`: a view, or codes."""
        w_EOI = w_EIO.mT if inner == 1 else w_EIO
        if not self.quantizes("weight"):
            return Operand(w_EOI)
        wide = self.block if self.dials.weight_blocks == "2d" else 1
        tensor_scale_E = nvfp4_tensor_scale(largest(w_EIO, (1, 2))) if self.by_expert else None
        found = self._blocks(w_EOI, wide, tensor, None, tensor_scale_E)
        if observe.listening():
            divisor = found.tensor_scale if tensor_scale_E is None else tensor_scale_E.view(-1, 1, 1)
            note_blocks(self.format, int(self.key_4[3]), tensor, w_EOI, found.codes(), found.scale, divisor, wide)
        return found

    def _blocks(
        self, x_EOI: Tensor, wide: int, tensor: str, name_O: Tensor | None = None,
        tensor_scale_E: Tensor | None = None, expert_O: Tensor | None = None,
    ) -> Operand:  # fmt: skip
        """`tensor_scale_E`: those of experts, which are x's first axis or `expert_O` of its second."""
        (experts, outer, inner), block = x_EOI.shape, self.block
        codes = _empty_codes(self.packs, experts, outer, inner, device=x_EOI.device)
        scale = codes.new_empty(experts, outer // wide, inner // block, dtype=SCALES[self.format])
        tensor_scale = tensor_scale_E
        if tensor_scale is None and self.format == "nvfp4":
            tensor_scale = nvfp4_tensor_scale(largest(x_EOI))
        drawn = self._drawn(tensor)
        if codes.numel():
            block_o, block_i = (128, 128) if wide > 1 else (TILE, 128)
            grid = (experts * triton.cdiv(outer, block_o) * triton.cdiv(inner, block_i),)
            whole = tensor_scale if expert_O is None else tensor_scale.index_select(0, expert_O)
            blocks_kernel[grid](
                x_EOI, codes, of_bytes(scale), codes if whole is None else whole, self.key_4,
                codes if name_O is None else name_O, *x_EOI.stride(), outer, INNER=inner, FORMAT=self.format,
                CLIP=self.dials.clip, STOCHASTIC=drawn >= 0, TENSOR=drawn, NAMED=drawn >= 0 and name_O is not None,
                BY_EXPERT=tensor_scale_E is not None, BY_ROW=expert_O is not None,
                LENGTH=block, WIDE=wide, PACKED=self.packs, BLOCK_O=block_o, BLOCK_I=block_i, num_warps=8,
            )  # fmt: skip
        return Operand(codes, scale, tensor_scale, wide, packed=self.packs)

    def slots(self, x: Tensor, blocks: Routes, top_k: int, by_token: bool, tensor: str) -> Operand:
        """A factor of a weight gradient; `x` lies by token or by row in expert order. `blocks` are routes in tiles of `block`
        rows. Noise counts slots."""
        if self.format == "fp8":
            return self._tiles(x, blocks, top_k, by_token, tensor)
        tiles, width, columns = blocks.tile_expert_I.numel(), x.shape[1], self.native
        slots = tiles * self.block
        codes = _empty_codes(self.packs, *((width, slots) if columns else (slots, width)), device=x.device)
        scale = codes.new_empty((width, tiles) if columns else (tiles, width), dtype=SCALES[self.format])
        chunks = triton.cdiv(width, COLUMNS)
        tile_amax = x.new_zeros(max(1, tiles * chunks), dtype=torch.float32)
        tensor_scale = tile_amax  # not read by the survey
        for survey in (True, False) if self.format == "nvfp4" else (False,):
            drawn = -1 if survey else self._drawn(tensor)
            if codes.numel():
                slots_kernel[(tile_amax.numel(),)](
                    x, codes, of_bytes(scale), tile_amax, tensor_scale, self.key_4,
                    blocks.row_R, blocks.start_E1, blocks.tile_expert_I, blocks.tile_row_I, slots,
                    WIDTH=width, K=top_k, BY_TOKEN=by_token, HADAMARD=self.dials.hadamard, SIGNS=SIGNS,
                    CLIP=self.dials.clip, STOCHASTIC=drawn >= 0, TENSOR=drawn,
                    SURVEY=survey, BY_EXPERT=self.by_expert, FORMAT=self.format, LENGTH=self.block,
                    BY_COLUMN=columns, BLOCK_I=COLUMNS, num_warps=4,
                )  # fmt: skip
            if survey:
                starts = slot_starts(blocks, SIZE) // SIZE * chunks
                amax = by_expert(tile_amax, starts) if self.by_expert else tile_amax.amax()
                tensor_scale = nvfp4_tensor_scale(amax)
        divisor = tensor_scale if self.format == "nvfp4" else None
        found = Operand(codes, scale, divisor, packed=self.packs, by_column=columns)
        if observe.listening() and tiles:
            token_R = blocks.row_R // top_k if by_token else None
            values, scale = (t.mT if columns else t for t in (found.codes(), scale))
            note_slots(self.format, int(self.key_4[3]), tensor, x, values, scale, divisor, blocks, token_R, self.dials.hadamard)
        return found

    def _tiles(self, x: Tensor, blocks: Routes, top_k: int, by_token: bool, tensor: str) -> Operand:
        tiles, width, length = blocks.tile_expert_I.numel(), x.shape[1], self.block
        codes = torch.empty(tiles, width, length, dtype=CODES, device=x.device)
        scale = codes.new_empty(tiles, width, dtype=torch.float32)
        drawn = self._drawn(tensor)
        if codes.numel():
            tiles_kernel[(tiles * triton.cdiv(width, TILE),)](
                x, codes, scale, self.key_4, blocks.row_R, blocks.start_E1, blocks.tile_expert_I, blocks.tile_row_I,
                WIDTH=width, K=top_k, BY_TOKEN=by_token, CLIP=self.dials.clip, STOCHASTIC=drawn >= 0, TENSOR=drawn,
                BLOCK_S=length, BLOCK_I=TILE, num_warps=8,
            )  # fmt: skip
        if observe.listening() and tiles:
            token_R = blocks.row_R // top_k if by_token else None
            codes_PI = codes.mT.reshape(tiles * length, width)
            note_slots(self.format, int(self.key_4[3]), tensor, x, codes_PI, scale, None, blocks, token_R, False)
        return Operand(codes, scale)

    def _drawn(self, tensor: str) -> int:
        """The place in TENSORS of one that is rounded by noise, else -1."""
        return TENSORS.index(tensor) if self.dials.stochastic_rounding and tensor in TENSORS else -1


def kind(format: str, native: bool) -> str:
    """What tile sizes are kept for: the format, and whether the tensor cores take its block scales. fp8 has none."""
    return f"{format} native" if native and format not in ("", "fp8") else format


def _empty_codes(packed: bool, *shape: int, device: torch.device) -> Tensor:
    if packed:
        return torch.empty(*shape[:-1], shape[-1] // 2, dtype=torch.uint8, device=device)
    return torch.empty(shape, dtype=CODES, device=device)


def of_bytes(scale: Tensor) -> Tensor:
    """What a launch takes: Triton has no E8M0."""
    return scale.view(torch.uint8) if scale.dtype == torch.float8_e8m0fnu else scale


def largest(x: Tensor, axes: int | tuple[int, ...] | None = None) -> Tensor:
    """fp32: the largest magnitude, over `axes` or of all, NaN if there is one; 0 for no elements."""
    if not x.numel():
        return x.new_zeros([] if axes is None else x.shape[:1], dtype=torch.float32)
    if axes is None:
        low, high = torch.aminmax(x)
    else:
        low, high = x.amin(axes), x.amax(axes)
    return torch.maximum(high, -low).float()


def by_expert(amax_N: Tensor, start_E1: Tensor) -> Tensor:
    """fp32 (E): the largest of every expert's entries, from `start_E1` on."""
    amax_E = amax_N.new_empty(start_E1.numel() - 1)
    maxima_kernel[(amax_E.numel(),)](amax_N, start_E1, amax_E, BLOCK=1024, num_warps=4)
    return amax_E


def slot_starts(blocks: Routes, length: int) -> Tensor:
    """int64 (E+1): the first slot of every expert, where `blocks` are routes in tiles of `length` rows."""
    slot_E = (blocks.start_E1.diff() + (length - 1)) // length * length
    return torch.nn.functional.pad(slot_E.cumsum(0), (1, 0))
