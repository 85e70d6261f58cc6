"""Fused operations that a model is built from. They know torch and Triton, nothing of the harness. See README.md beside this.

`moe_mlp` is the expert MLP: one interface, several backends, one oracle (`kernels/reference.py`). `causal_attention` is the
attention that sees all that came before, `document_attention` on a GPU that which stays within documents.
"""

from kernels.attention import causal_attention
from kernels.cpu.operands import NonFiniteOperand
from kernels.cpu.prepared import prepare_products
from kernels.document_attention import document_attention, document_blocks
from kernels.moe import BACKENDS, moe_mlp
from kernels.precision import Arithmetic, Precision, Quantization
from kernels.quantize import quantize
from kernels.selection import router_logits, select_experts

__all__ = [
    "BACKENDS", "Arithmetic", "NonFiniteOperand", "Precision", "Quantization", "causal_attention", "document_attention",
    "document_blocks", "moe_mlp", "prepare_products", "quantize", "router_logits", "select_experts",
]  # fmt: skip
