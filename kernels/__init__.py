"""Fused operations that a model is built from. They know torch (and later triton), nothing of the harness.

`moe_mlp` is the expert MLP: one interface, several backends, one oracle (`kernels/reference.py`).
"""

from kernels.cpu_operands import NonFiniteOperand
from kernels.moe import BACKENDS, moe_mlp
from kernels.precision import Precision, Quantization
from kernels.prepared import prepare_products
from kernels.quantize import quantize
from kernels.rounding import Arithmetic

__all__ = ["BACKENDS", "Arithmetic", "NonFiniteOperand", "Precision", "Quantization", "moe_mlp", "prepare_products", "quantize"]
