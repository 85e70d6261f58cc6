"""What the products of an FFN multiply: the one object that `moe_mlp` and the dense FFN take.

A precision is an arithmetic and, below bf16, a quantization with its dials. Custom operators carry it as text:
`Precision.of(str(precision)) == precision`.

An arithmetic says what "bf16" means to a product, operands rounded to bf16 and accumulated in fp32:

- `native`: operands are bf16 tensors, the hardware multiplies them. CPUs with AMX, GPUs.
- `emulated`: operands are rounded to bf16 but kept and multiplied in fp32. For CPUs whose bf16 GEMM is slower than their
  fp32 one (no AMX: 2 against 223 GFLOP/s seen with AVX2); its own hardware class.
- `full`: fp32 throughout, the oracle.

| | fp8 | nvfp4 (arXiv 2509.25149) | mxfp8 (arXiv 2506.08027) | mxfp4 |
|---|---|---|---|---|
| elements, block | E4M3, 128 | E2M1, 16 | E4M3, 32 | E2M1, 32 |
| scales | fp32 a block | E4M3 a block, fp32 a tensor: one of a layer, or one of every expert | E8M0 a block | E8M0 a block |
| weights | 128 x 128 blocks | 16 x 16 blocks | 1 x 32, along each product's reduction | 32 x 32 blocks |
| weight gradients | bf16, or as nvfp4's in E4M3 | both factors nvfp4 along the rows, transformed by a random Hadamard matrix | both factors along the rows | as nvfp4's |
| gradients | nearest | stochastic rounding | nearest | stochastic rounding |

No recipe of mxfp4 is the accepted one: ours is nvfp4's, so that the two differ in their scales alone.
"""  # noqa: E501

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

FORMATS = {"fp8": 128, "nvfp4": 16, "mxfp8": 32, "mxfp4": 32}  # block length
MX = ("mxfp8", "mxfp4")  # whose scales are powers of two, so that decoded values are exact in bf16
OPERANDS = ("input", "weight", "hidden", "gradient", "weight_gradient")
FACTORS = OPERANDS[:4]  # of the products of rows


BLOCK_SCALED_TRITON = (3, 7)  # 3.6 fails on the same kernels in its warp specialization (kernels/triton/NOTES.md)


def native(format: str, keep: Iterable[str], capability: tuple[int, ...]) -> bool:
    """Whether a CUDA device of this compute capability multiplies codes of `format` (of FORMATS) as they are: fp8 from 8.9 on;
    formats with block scales on 10.x, by a Triton that can assemble it, where `keep` leaves no product a factor in bf16. (12.x
    has other instructions, for which nothing here has been compiled.)"""
    if format == "fp8":
        return capability >= (8, 9)
    return capability[0] == 10 and assembles_block_scales() and not set(FACTORS) & set(keep)


@cache
def assembles_block_scales() -> bool:
    """Whether the Triton that is installed can."""
    try:
        return tuple(map(int, version("triton").split(".")[:2])) >= BLOCK_SCALED_TRITON
    except PackageNotFoundError:
        return False


@dataclass(frozen=True)
class Arithmetic:
    """`dtype` of the operands in memory; `rounds`: whether fp32 operands are rounded to bf16 first."""

    name: str
    dtype: torch.dtype
    rounds: bool

    @staticmethod
    def of(name: str) -> "Arithmetic":
        """
        Raises:
            ValueError: an unknown name.
        """
        if name not in _KNOWN:
            raise ValueError(f"arithmetic={name!r}: known are {', '.join(_KNOWN)}")
        return _KNOWN[name]

    def operand(self, x: Tensor) -> Tensor:
        """`x` as an operand of a product. Not differentiable on purpose where it rounds: use inside a Function."""
        if self.rounds:
            return x.to(torch.bfloat16).to(torch.float32)
        return x.to(self.dtype)


_KNOWN = {
    "native": Arithmetic("native", torch.bfloat16, rounds=False),
    "emulated": Arithmetic("emulated", torch.float32, rounds=True),
    "full": Arithmetic("full", torch.float32, rounds=False),
}


@dataclass(frozen=True)
class Quantization:
    """`format` of FORMATS. `stochastic_rounding`: of gradients. `hadamard`: before the weight gradients' factors
    are quantized (not in fp8). `weight_blocks`: `2d` squares, the same codes forward and backward, or `1d` along each
    product's reduction. `clip`: share of a block's largest magnitude that its scale is made for; what lies above
    saturates. `keep`: operands that stay bf16: `input` of the FFN, `weight` (forward and backward), `hidden` (the
    activation), `gradient` (of output and hidden state, in the products that go back), `weight_gradient` (both
    factors of it).

    `fp8_weight_gradients`: fp8 quantizes their factors too, nearest, in tiles of 128 rows of one expert by 1 column, whose
    last may be short; the sums of each tile are scaled and added in fp32. So do DeepSeek-V3 (arXiv 2412.19437, section 3.3;
    its input is quantized anew from the codes of the forward, here from bf16) and TransformerEngine (`Float8BlockScaling`,
    at d0067d0, whose scales are powers of 2 by default).

    `dither` (nvfp4, mxfp4): the share of groups of four weights, along the outputs, that have noise from -1/4 to 1/4 added
    before each is rounded, of values as the format holds them; drawn anew each step. nmoe (`csrc/adamw.cu`) has it so, in a
    half or an eighth of the groups whose codes the update left as they were; here in groups whatever their codes did, since
    no codes are kept between steps.

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
    dither: float = 0.0

    @staticmethod
    def recipe(format: str) -> "Quantization":
        """The published recipe of a format.

        Raises:
            ValueError: an unknown format.
        """
        if format not in FORMATS:
            raise ValueError(f"format={format!r}: known are {', '.join(FORMATS)}")
        four_bits = format in ("nvfp4", "mxfp4")
        blocks = "1d" if format == "mxfp8" else "2d"
        return Quantization(format, stochastic_rounding=four_bits, hadamard=four_bits, weight_blocks=blocks)

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
            int(q.fp8_weight_gradients), repr(q.dither),
        )  # fmt: skip
        return "/".join((self.arithmetic.name, q.format, *map(str, dials)))

    @property
    def plain(self) -> "Precision":
        """The same arithmetic, nothing quantized."""
        return Precision(self.arithmetic)

    @property
    def still(self) -> "Precision":
        """Without dither, as a model is scored."""
        q = self.quantization
        return self if q is None or not q.dither else Precision(self.arithmetic, replace(q, dither=0.0))

    def weight_operand(self, w: Tensor) -> Tensor:
        """What the backends take: an operand of the arithmetic, or the master weights as they are, for a quantizer to see: it
        computes in fp32, and a copy in fp32 would cost more than the product saves."""
        quantized = self.quantization is not None and self.quantization.quantizes("weight")
        return w if quantized else self.arithmetic.operand(w)

    @staticmethod
    @cache
    def of(text: str) -> "Precision":
        """From what `str` wrote; the name of an arithmetic alone quantizes nothing.

        Raises:
            ValueError: an unknown name.
        """
        name, *dials = text.split("/")
        if not dials:
            return Precision(Arithmetic.of(name))
        format, stochastic, hadamard, blocks, clip, keep, tensor_scale, fp8_weight_gradients, dither = dials
        kept = tuple(keep.split(",")) if keep else ()
        quantization = Quantization(
            format, stochastic == "1", hadamard == "1", blocks, float(clip), kept, tensor_scale, fp8_weight_gradients == "1",
            float(dither),
        )  # fmt: skip
        return Precision(Arithmetic.of(name), quantization)
