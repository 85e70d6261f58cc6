"""Products that a CPU's library has built before the clock starts."""

from functools import cache

import torch

from kernels.activation import ACTIVATIONS
from kernels.cpu.expert_mlp import backward, forward
from kernels.cpu.operands import Quantizer
from kernels.precision import Precision
from kernels.routing import ROW_MULTIPLE, segments

MOST_ROW_COUNTS = 256  # prepared for each product


def prepare_products(tokens: int, width: int, expert_width: int, *, activation: str, precision: Precision) -> None:
    """Has oneDNN build the products of every row count that an expert can get from `tokens` tokens (1 to 256 multiples of 16).

    It builds a bf16 primitive at the first call with a row count, which takes about 1 ms against 0.06 ms for the product of
    1,024 rows itself. On two AMX cores the first 20 steps of tiny-moe-16e after warm-up took 261 and 272 ms each with this and
    320 and 324 without, later ones alike; it takes seconds, and belongs to compilation, not on the clock. No bits depend on
    it. Nothing to do where products run in fp32, which another library computes.
    """
    if precision.arithmetic.dtype == torch.bfloat16:
        _prepare(tokens, width, expert_width, activation, precision)


@cache
def _prepare(tokens: int, width: int, expert_width: int, activation: str, precision: Precision) -> None:
    dtype, act, key_4 = precision.arithmetic.dtype, ACTIVATIONS[activation], torch.zeros(4, dtype=torch.int64)
    w_up_EDG = precision.weight_operand(torch.zeros(1, width, expert_width * act.fan))
    w_down_EFD = precision.weight_operand(torch.zeros(1, expert_width, width))
    for rows in range(ROW_MULTIPLE, min(tokens + ROW_MULTIPLE, ROW_MULTIPLE * (MOST_ROW_COUNTS + 1)), ROW_MULTIPLE):
        where = segments(torch.zeros(rows, 1, dtype=torch.int64), 1)
        make = Quantizer.of(precision, key_4, False, where, 1)
        x_TD, h_PG = torch.zeros(rows, width, dtype=dtype), torch.empty(rows, w_up_EDG.shape[2], dtype=dtype)
        tensors = (x_TD, w_up_EDG, w_down_EFD, torch.zeros(rows, 1))
        forward(*tensors, where, act, make, h_PG)
        backward(x_TD, *tensors, where, act, make, h_PG)
