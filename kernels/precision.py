"""What the products of an FFN multiply: the one object that `moe_mlp` and the dense FFN take.

A precision is an arithmetic (`kernels.rounding`: how bf16 operands are held and multiplied) and, below bf16, a
quantization with its dials. Custom operators carry it as text: `Precision.of(str(precision)) == precision`.

| | fp8 | nvfp4 (arXiv 2509.25149) |
|---|---|---|
| elements, block | E4M3, 128 | E2M1, 16 |
| scales | fp32 a block | E4M3 a block, fp32 a tensor: one of a layer, or one of every expert |
| weights | 128 x 128 blocks | 16 x 16 blocks |
| weight gradients | bf16, or as nvfp4's in E4M3 | both factors nvfp4 along the rows, transformed by a random Hadamard matrix |
| gradients | nearest | stochastic rounding |
"""

from dataclasses import dataclass
from functools import cache

from torch import Tensor

from kernels.rounding import Arithmetic

FORMATS = {"fp8": 128, "nvfp4": 16}  # block length
OPERANDS = ("input", "weight", "hidden", "gradient", "weight_gradient")


@dataclass(frozen=True)
class Quantization:
    """`format`: fp8 | nvfp4. `stochastic_rounding`: of gradients. `hadamard`: before the weight gradients' factors
    are quantized (nvfp4). `weight_blocks`: `2d` squares, the same codes forward and backward, or `1d` along each
    product's reduction. `clip`: share of a block's largest magnitude that its scale is made for; what lies above
    saturates. `keep`: operands that stay bf16: `input` of the FFN, `weight` (forward and backward), `hidden` (the
    activation), `gradient` (of output and hidden state, in the products that go back), `weight_gradient` (both
    factors of it).

    `fp8_weight_gradients`: fp8 quantizes their factors too, nearest, in tiles of 128 rows of one expert by 1 column, whose
    last may be short; the sums of each tile are scaled and added in fp32. So do DeepSeek-V3 (arXiv 2412.19437, section 3.3;
    its input is quantized anew from the codes of the forward, here from bf16) and TransformerEngine (`Float8BlockScaling`,
    at d0067d0, whose scales are powers of 2 by default).

    `tensor_scale` (nvfp4): `layer`, one scale for a tensor of all experts, or `expert`, one for each expert's own part:
    of both weights its matrix; of input, hidden activation, both gradients and the factors of weight gradients (after
    the transform) the rows that are routed to it, padding left out. A token's row is then quantized once for each of
    its experts; noise counts tokens either way, so that scales differ and draws do not. `expert` is what others do, of
    all these tensors: TransformerEngine splits x and dy by expert, each with a quantizer of its own (GroupedLinear,
    `_split_quantize`, at d0067d0), torchao takes an amax for each expert of x, dy and w (`_NVFP4GroupedMM`:
    `triton_group_rht_amax`, `triton_group_weight_amax`, at 36027d8)."""

    format: str
    stochastic_rounding: bool = False
    hadamard: bool = False
    weight_blocks: str = "2d"
    clip: float = 1.0
    keep: tuple[str, ...] = ()
    tensor_scale: str = "layer"
    fp8_weight_gradients: bool = False

    @staticmethod
    def recipe(format: str) -> "Quantization":
        """The published recipe of a format. Errors: ValueError for an unknown one."""
        if format not in FORMATS:
            raise ValueError(f"format={format!r}: known are {', '.join(FORMATS)}")
        return Quantization(format, stochastic_rounding=format == "nvfp4", hadamard=format == "nvfp4")

    @property
    def by_expert(self) -> bool:
        return self.tensor_scale == "expert" and self.format == "nvfp4"

    @property
    def block(self) -> int:
        return FORMATS[self.format]

    def quantizes(self, operand: str) -> bool:
        """`operand` of OPERANDS."""
        in_bf16 = operand == "weight_gradient" and self.format == "fp8" and not self.fp8_weight_gradients
        return operand not in self.keep and not in_bf16


@dataclass(frozen=True)
class Precision:
    arithmetic: Arithmetic
    quantization: Quantization | None = None

    def __str__(self) -> str:
        q = self.quantization
        if q is None:
            return self.arithmetic.name
        dials = (
            int(q.stochastic_rounding), int(q.hadamard), q.weight_blocks, repr(q.clip), ",".join(q.keep), q.tensor_scale,
            int(q.fp8_weight_gradients),
        )  # fmt: skip
        return "/".join((self.arithmetic.name, q.format, *map(str, dials)))

    def weight_operand(self, w: Tensor) -> Tensor:
        """What the backends take: values in the arithmetic's dtype, or the master weights, which a quantizer is to see, as
        they are: it computes in fp32, and a copy in fp32 would cost more than the product saves."""
        return self.arithmetic.operand(w) if self.quantization is None else w

    @staticmethod
    @cache
    def of(text: str) -> "Precision":
        """From what `str` wrote; the name of an arithmetic alone quantizes nothing. Errors: ValueError for an unknown
        name."""
        name, *dials = text.split("/")
        if not dials:
            return Precision(Arithmetic.of(name))
        format, stochastic, hadamard, blocks, clip, keep, tensor_scale, fp8_weight_gradients = dials
        kept = tuple(keep.split(",")) if keep else ()
        quantization = Quantization(
            format, stochastic == "1", hadamard == "1", blocks, float(clip), kept, tensor_scale, fp8_weight_gradients == "1"
        )
        return Precision(Arithmetic.of(name), quantization)
