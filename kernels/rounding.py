"""What "bf16" means to a matrix product: operands rounded to bf16, accumulated in fp32.

Three arithmetics, one small object passed to every product of the model:

- `native`: operands are bf16 tensors, the hardware multiplies them. CPUs with AMX, GPUs.
- `emulated`: operands are rounded to bf16 but kept and multiplied in fp32. For CPUs whose bf16 GEMM is slower than their
  fp32 one (no AMX: 2 against 223 GFLOP/s seen with AVX2); its own hardware class.
- `full`: fp32 throughout, the oracle.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Arithmetic:
    """`dtype` of the operands in memory; `rounds`: whether fp32 operands are rounded to bf16 first."""

    name: str
    dtype: torch.dtype
    rounds: bool

    @staticmethod
    def of(name: str) -> "Arithmetic":
        if name not in _KNOWN:
            raise ValueError(f"precision={name!r}: known are {', '.join(_KNOWN)}")
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
