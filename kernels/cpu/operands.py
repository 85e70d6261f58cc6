"""Operands of the CPU's products: values that the arithmetic multiplies exactly, and the scales that its sums still need.

Letters: P slots, S slots that are worked on at once, I inner and O outer dimension of a product, E experts, N blocks of the
inner dimension, M of the outer.

MX: the values are code * scale, exact in bf16: plain operands. nvfp4: the same, and what is left is to divide the sums by
the tensor scales. fp8:
the values are codes, exact in bf16 too, and every block of 128 of the inner dimension (of a weight gradient: of an
expert's rows) is a product of its own, whose sums are scaled and added in fp32 ("promotion"). On a CPU with native bf16
every product's sums leave the library rounded to bf16, as in the bf16 lane."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import observe
from kernels.beside import Beside, scales_tensors
from kernels.cpu.compiled import compiled
from kernels.hadamard import SIZE, transform_rows
from kernels.noise import dither, uniform, word
from kernels.precision import MX, Arithmetic, Precision, Quantization
from kernels.quantize import (
    ELEMENTS,
    fp8_round,
    fp8_scale,
    mx_round,
    mx_scale,
    nvfp4_block_scale,
    nvfp4_round,
    nvfp4_tensor_scale,
)
from kernels.routing import Part, Segments


class NonFiniteOperand(ValueError):
    """A value that is not finite entered a quantizer: in `layer`, of `tensor`, at `step` (counted from 0)."""

    def __init__(self, layer: int, tensor: str, step: int):
        super().__init__(f"layer {layer}, {tensor}: values that are not finite, at step {step + 1}")
        self.layer, self.tensor, self.step = layer, tensor, step


class Operand(NamedTuple):
    """`values` in the arithmetic's dtype; `scale` fp32, of rows (S, N), of weights (E, N, M), of columns (S/16, I), None
    where the values hold it; `divisor` fp32, what sums are still to be divided by (nvfp4's tensor scale), 0-dim or of
    every expert (E), or None."""

    values: Tensor
    scale: Tensor | None = None
    divisor: Tensor | None = None
    plain: bool = True  # nothing was quantized

    def take(self, token_S: Tensor) -> "Operand":
        """The rows of slots."""
        scale = None if self.scale is None else self.scale.index_select(0, token_S)
        return self._replace(values=self.values.index_select(0, token_S), scale=scale)

    def transposed(self) -> "Operand":
        return self._replace(values=self.values.mT, scale=None if self.scale is None else self.scale.mT)


@dataclass(frozen=True)
class Quantizer:
    """Makes operands, quantized where `dials` say so, of tensors that are operands of the arithmetic already (weights that are
    quantized: the masters). `key_4`: see `kernels.noise`; `fused`: whether to compile what is elementwise; `slots_E` int64:
    every expert's, in their order, for tensor scales of experts and fp8's columns."""

    dials: Quantization | None
    arithmetic: Arithmetic
    key_4: Tensor | None
    fused: bool
    slots_E: Tensor | None = None
    beside: Beside | None = None

    @staticmethod
    def of(
        precision: Precision, key_4: Tensor | None, fused: bool, segments: Segments, experts: int, beside: Beside | None = None
    ) -> "Quantizer":
        slots_E = None
        if precision.quantization:
            slots = {expert: end - start for expert, start, end in segments.bounds}
            slots_E = torch.tensor([slots.get(expert, 0) for expert in range(experts)], dtype=torch.int64)
        return Quantizer(precision.quantization, precision.arithmetic, key_4, fused, slots_E, beside)

    @property
    def apart(self) -> bool:
        """Whether segments are worked on one by one: nothing looks at more than a row."""
        return self.dials is None and not self.fused

    def quantizes(self, operand: str) -> bool:
        return self.dials is not None and self.dials.quantizes(operand)

    def operand(self, x: Tensor) -> Tensor:
        return self.arithmetic.operand(x)

    def run(self, function: Callable, *arguments: Tensor):
        return compiled(function)(*arguments) if self.fused else function(*arguments)

    def rows(self, x_SI: Tensor, operand: str, tensor: str, row_S: Tensor | None = None) -> Operand:
        """`x_SI` in blocks along each row, by slot or by token. `row_S` names the rows to stochastic rounding; without it the
        nearest. Padding slots must hold zeros where tensor scales are those of experts, and rows be slots."""
        if not self.quantizes(operand):
            return Operand(x_SI)
        x_SNB = x_SI.reshape(len(x_SI), x_SI.shape[1] // self.dials.block, self.dials.block)
        row = None if row_S is None else row_S.int().view(-1, 1, 1)
        values, scale, divisor = self._encoded(x_SNB, (2,), tensor, row, 1)
        return Operand(values.view(x_SI.shape), None if scale is None else scale.view(x_SNB.shape[:2]), divisor, False)

    def rows_of_tokens(self, x_TD: Tensor, operand: str, tensor: str, part: Part, drawn: bool = False) -> Operand:
        """(S, D): the token of every slot, quantized by token or, under tensor scales of experts, by slot. `drawn`: by noise,
        which counts tokens."""
        if not self.quantizes(operand):
            return Operand(x_TD).take(part.token_P)
        token_T = torch.arange(len(x_TD)) if self.beside is None else self.beside.token_S
        if self.dials.by_expert:
            return self.rows(_of_slots(x_TD, part), operand, tensor, token_T[part.token_P] if drawn else None)
        return self.rows(x_TD, operand, tensor, token_T if drawn else None).take(part.token_P)

    def numbers(self, part: Part) -> Tensor | None:
        """int64: the row in each slot, as noise counts those of the hidden layer's gradient; None where nothing is drawn."""
        if not self.quantizes("gradient"):
            return None
        return part.row_P if self.beside is None else self.beside.rows(part.row_P)

    def weights(self, w_EIO: Tensor, tensor: str, inner: int) -> Operand:
        """The operand of a product whose reduction runs over axis `inner` of `w_EIO` (1 or 2); transposed if that is the last
        one, so that the operand's inner dimension comes first."""
        if not self.quantizes("weight"):
            return Operand(w_EIO if inner == 1 else w_EIO.mT)
        block, (experts, inputs, outputs) = self.dials.block, w_EIO.shape
        if self.dials.weight_blocks == "2d":
            shape, axes = (experts, inputs // block, block, outputs // block, block), (2, 4)
        elif inner == 1:
            shape, axes = (experts, inputs // block, block, outputs), (2,)
        else:
            shape, axes = (experts, inputs, outputs // block, block), (3,)
        jitter = dither(self.key_4, tensor, w_EIO.shape, self.dials.dither).reshape(shape) if self.dials.dither else None
        values, scale, divisor = self._encoded(w_EIO.reshape(shape), axes, tensor, None, 0, jitter=jitter)
        operand = Operand(values.reshape(w_EIO.shape), None if scale is None else scale.squeeze(axes), divisor, False)
        return operand if inner == 1 else operand.transposed()

    def factor_of_tokens(self, x_TD: Tensor, part: Part, rows: Operand | None = None) -> Tensor:
        """(S, D): the token of every slot as `columns` takes it. `rows`: what `rows_of_tokens` made of the same tensor, which
        serves if nothing was quantized."""
        if self.quantizes("weight_gradient"):
            return _of_slots(x_TD, part)
        return rows.values if rows is not None and rows.plain else x_TD.index_select(0, part.token_P)

    def columns(self, x_SI: Tensor, tensor: str, drawn: bool = False) -> Operand:
        """A factor of a weight gradient: blocks of 16 rows (fp8: 128) of an expert, transformed where the dials say so; zeros
        in padding slots. `drawn`: by noise, which counts slots, an expert's padded to whole blocks."""
        if not self.quantizes("weight_gradient"):
            return Operand(x_SI)
        if self.dials.hadamard:
            x_SI = transform_rows(x_SI)
        x_NBI = x_SI.view(len(x_SI) // SIZE, SIZE, x_SI.shape[1])
        length_G = self._blocks_of_16()
        row = self._numbered(length_G).view(-1, SIZE, 1) if drawn else None
        values, scale, divisor = self._encoded(x_NBI, (1,), tensor, row, SIZE, length_G)
        return Operand(values.view(x_SI.shape), None if scale is None else scale.squeeze(1), divisor, False)

    def _blocks_of_16(self) -> Tensor | None:
        """int64 (G): of 16 rows, in each of longer blocks (fp8's 128, MX's 32), of which an expert's last may be short; None
        where blocks are those of 16 themselves, or there is none."""
        most = self.dials.block // SIZE
        if most == 1 or not self.slots_E.any():
            return None
        count_E = self.slots_E // SIZE
        blocks_E = -(-count_E // most)
        length_G = torch.full((int(blocks_E.sum()),), most)
        last_E = (blocks_E.cumsum(0) - 1)[count_E > 0]
        length_G[last_E] = (count_E - (blocks_E - 1) * most)[count_E > 0]
        return length_G

    def _numbered(self, length_G: Tensor | None) -> Tensor:
        """int32 (S): slots as noise counts them."""
        slots = torch.arange(int(self.slots_E.sum())) + (0 if self.beside is None else self.beside.first_slot)
        if length_G is None:
            return slots.int()
        short_G = self.dials.block - SIZE * length_G
        before_S = (short_G.cumsum(0) - short_G).repeat_interleave(SIZE * length_G)
        return (slots + before_S).int()

    def _encoded(
        self, x: Tensor, axes: tuple[int, ...], tensor: str, row: Tensor | None, slots: int,
        length_G: Tensor | None = None, jitter: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
        """Values of x's shape, the scale of each block (axes of length 1; None where the values hold it), the divisor; blocks
        lie along `axes` of `x`, whose first axis counts so many slots at a time, or with 0 the experts. `length_G` of its
        entries share each scale. `jitter`: dither of x's shape.

        Raises:
            NonFiniteOperand: a value of `x` is not finite.
        """
        of_blocks = self.run(_amax_over(axes), x)
        largest = of_blocks.max() if of_blocks.numel() else torch.zeros(())
        if self.beside is not None and scales_tensors(self.dials):
            largest = self.beside.largest(tensor, largest)
        if not torch.isfinite(largest):
            raise NonFiniteOperand(int(self.key_4[3]), tensor, int(self.key_4[1]))
        drawn = () if row is None or not self.dials.stochastic_rounding else (row, word(self.key_4, tensor))
        dithered = () if jitter is None else (jitter,)
        if length_G is not None:
            of_blocks = torch.segment_reduce(of_blocks, "max", lengths=length_G).repeat_interleave(length_G, 0)
        amax = of_blocks * self.dials.clip
        tensor_scale, divisor = None, None
        if self.dials.format == "fp8":
            scale = fp8_scale(amax)
            values = self.run(_fp8_values(self.arithmetic.dtype), x, scale, *drawn)
        elif self.dials.format in MX:
            scale, inverse = mx_scale(amax, ELEMENTS[self.dials.format])
            made = _mx_values if jitter is None else _mx_dithered
            values = self.run(made(self.arithmetic.dtype, self.dials.format), x, scale, inverse, *drawn, *dithered)
        else:
            divisor, tensor_scale = self._tensor_scales(of_blocks, largest, slots)
            scale = nvfp4_block_scale(amax, tensor_scale)
            made = _nvfp4_values if jitter is None else _nvfp4_dithered
            values = self.run(made(self.arithmetic.dtype), x, scale, tensor_scale, *drawn, *dithered)
        if observe.listening():
            self._note(tensor, x, values, scale, tensor_scale)
        return values, scale if self.dials.format == "fp8" else None, divisor

    def _tensor_scales(self, amax: Tensor, largest: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """From the largest magnitudes of blocks and of all: 0-dim, or of every expert (E); and as they broadcast to `amax`."""
        if not self.dials.by_expert:
            tensor_scale = nvfp4_tensor_scale(largest)
            return tensor_scale, tensor_scale
        length_E = self.slots_E // slots if slots else torch.ones(len(amax), dtype=torch.int64)
        largest_E = torch.segment_reduce(amax.flatten(1).amax(1), "max", lengths=length_E, initial=0)
        tensor_scale_E = nvfp4_tensor_scale(largest_E)
        return tensor_scale_E, tensor_scale_E.repeat_interleave(length_E).view(-1, *[1] * (amax.ndim - 1))

    def _note(self, tensor: str, x: Tensor, values: Tensor, scale: Tensor, tensor_scale: Tensor | None) -> None:
        largest = ELEMENTS[self.dials.format].largest
        if self.dials.format in MX:
            decoded, limit = values.float(), largest * scale
        elif tensor_scale is None:
            decoded, limit = values.float() * scale, largest * scale
        else:
            decoded, limit = values.float() / tensor_scale, largest * scale / tensor_scale
        observe.note(int(self.key_4[3]), tensor, x, decoded, limit)


def _of_slots(x_TD: Tensor, part: Part) -> Tensor:
    """(S, D): the token of every slot, zeros in padding slots."""
    return x_TD.index_select(0, part.token_P).index_fill_(0, part.padding(), 0.0)


@cache
def _amax_over(axes: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    return lambda x: x.float().abs().amax(axes, keepdim=True)


@cache
def _fp8_values(dtype: torch.dtype) -> Callable[..., Tensor]:
    def values(x: Tensor, scale: Tensor, *drawn: Tensor) -> Tensor:
        return fp8_round(x.float(), scale, _noise(x, *drawn)).to(dtype)

    return values


@cache
def _nvfp4_values(dtype: torch.dtype) -> Callable[..., Tensor]:
    def values(x: Tensor, scale: Tensor, tensor_scale: Tensor, *drawn: Tensor) -> Tensor:
        return (nvfp4_round(x.float(), scale, tensor_scale, _noise(x, *drawn)) * scale).to(dtype)

    return values


@cache
def _nvfp4_dithered(dtype: torch.dtype) -> Callable[..., Tensor]:
    def values(x: Tensor, scale: Tensor, tensor_scale: Tensor, jitter: Tensor) -> Tensor:
        return (nvfp4_round(x.float(), scale, tensor_scale, None, jitter) * scale).to(dtype)

    return values


@cache
def _mx_dithered(dtype: torch.dtype, format: str) -> Callable[..., Tensor]:
    element = ELEMENTS[format]

    def values(x: Tensor, scale: Tensor, inverse: Tensor, jitter: Tensor) -> Tensor:
        return (mx_round(x.float(), inverse, element, None, jitter) * scale).to(dtype)

    return values


@cache
def _mx_values(dtype: torch.dtype, format: str) -> Callable[..., Tensor]:
    element = ELEMENTS[format]

    def values(x: Tensor, scale: Tensor, inverse: Tensor, *drawn: Tensor) -> Tensor:
        return (mx_round(x.float(), inverse, element, _noise(x, *drawn)) * scale).to(dtype)

    return values


def _noise(x: Tensor, row: Tensor | None = None, key: Tensor | None = None) -> Tensor | None:
    """fp32 of x's shape; `row` int32 counts its rows and has length 1 in all axes of a row."""
    if row is None:
        return None
    of_a_row = [n if at > 0 and row.shape[at] == 1 else 1 for at, n in enumerate(x.shape)]
    return uniform(key, row, torch.arange(prod(of_a_row), dtype=torch.int32, device=x.device).view(of_a_row))
