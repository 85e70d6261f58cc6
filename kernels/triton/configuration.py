"""Tile sizes of the kernels. They never depend on T, and nothing is tuned in a run: both would change bits.

One safe configuration a dtype so far, measured on no device: tiles whose operands fit the shared memory of any GPU since sm_80
(the assembler's report for sm_80, sm_90 and sm_100 is asserted in `tests/test_kernels_triton_ahead.py`).
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Configuration:
    """`rows` x `columns` of an output tile (dH: `dh_columns`, its epilogue holds more), `inner` of the reduction a step; tokens
    and columns of the combine's tile."""

    rows: int
    columns: int
    dh_columns: int
    inner: int
    warps: int
    dw_warps: int  # of the weight gradients: with 8 of bf16 the assembler for sm_100 spills
    stages: int
    combine_tokens: int = 8
    combine_columns: int = 128

    @property
    def launch(self) -> dict[str, int]:
        return {"num_warps": self.warps, "num_stages": self.stages}


SAFE = {
    torch.bfloat16: Configuration(rows=128, columns=64, dh_columns=32, inner=64, warps=8, dw_warps=4, stages=3),
    torch.float16: Configuration(rows=128, columns=64, dh_columns=32, inner=64, warps=8, dw_warps=4, stages=3),
    torch.float32: Configuration(rows=32, columns=32, dh_columns=32, inner=32, warps=4, dw_warps=4, stages=2),
}


def configuration(dtype: torch.dtype) -> Configuration:
    return SAFE[dtype]
