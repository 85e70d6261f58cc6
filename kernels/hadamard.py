"""The random Hadamard transform of 16 rows: spreads an outlier over its block before quantization.

Both factors of a weight gradient are multiplied along their common (row) axis by the same orthogonal matrix, which
leaves their product as it was: (H x)^T (H dy) = x^T dy. H = Sylvester's matrix / 4 times a diagonal of random signs;
entries are +-0.25, exact. The signs are one fixed draw for all layers and steps, as in arXiv 2509.25149, section 4.2.
"""

from functools import cache

import torch
from torch import Tensor

from kernels.noise import mix

SIZE = 16


@cache
def matrix() -> Tensor:
    """fp32 (16, 16), orthogonal, on the CPU."""
    h = torch.ones(1, 1)
    while h.shape[0] < SIZE:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    signs = 1 - 2 * (mix(torch.arange(SIZE, dtype=torch.int32)) & 1).float()
    return h / 4 * signs


def transform_rows(x_PD: Tensor) -> Tensor:
    """fp32 (P, D) with P a multiple of 16: every block of 16 rows multiplied by H from the left."""
    rows, width = x_PD.shape
    return torch.matmul(matrix().to(x_PD.device), x_PD.float().view(rows // SIZE, SIZE, width)).view(rows, width)
