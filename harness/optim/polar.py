"""The orthogonal factor of a stack of matrices, by products alone: Newton-Schulz, in two forms.

    direct    X <- (a I + b R + c R^2) X, R = X X^T, at each iteration
    gram      R = X X^T once; Q <- (a I + Z) Q and R <- (a I + Z)^2 R, Z = b R + c R^2, at each iteration; Q X at the end

The same polynomials in exact arithmetic, of which the second multiplies the matrix itself twice and not 2 x iterations times:
it takes fewer FLOPs of matrices more than 1.5 times as wide as high (`harness/plan/parts/optim/muon.py` counts). Rounding
leaves R eigenvalues a little below 0, which X X^T has none of and every iteration multiplies by up to a^2. So Q goes into X,
and R is taken of it anew, before that shows: after every second iteration in bf16, every fifth in fp32.

Letters: N matrices of a stack, I and O input and output dimension (weights are stored input first). Newton-Schulz quintic and
its coefficients: Keller Jordan, "Muon" (2024). Other polynomials: Polar Express (arXiv 2505.16932). The Gram form and its
restart in half precision: gram-newton-schulz of Dao-AILab, an option of microsoft/dion too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.plan.parts.optim.muon import gram_segments

Coefficients = tuple[float, float, float]  # a, b, c of a X + b (X X^T) X + c (X X^T)^2 X
COEFFICIENTS: Coefficients = (3.4445, -4.7750, 2.0315)
POLAR_EXPRESS: list[Coefficients] = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]
SAFETY = 1.02  # what Polar Express divides by beside the norm, so that rounding leaves no singular value above 1


def polynomials(iteration: str, steps: int) -> list[Coefficients]:
    """Those of `steps` iterations, over a matrix of Frobenius norm 1."""
    if iteration == "quintic":
        return [COEFFICIENTS] * steps
    (a, b, c), *rest = POLAR_EXPRESS
    return [(a / SAFETY, b / SAFETY**3, c / SAFETY**5), *rest]


def segments(form: str, rows: int, columns: int, steps: int, dtype: torch.dtype) -> list[int]:
    """How many iterations of a matrix (rows, columns) go between two looks at it, in products of `dtype`; none in the direct
    form, and where the Gram form is counted no cheaper."""
    return gram_segments(rows, columns, steps, dtype == torch.bfloat16) if form == "gram" else []


def orthogonalize(
    g_NIO: Tensor, steps: int | list[Coefficients], dtype: torch.dtype = torch.float32, lengths: Sequence[int] = ()
) -> Tensor:
    """Newton-Schulz in `dtype` towards U V^T for each matrix U S V^T of the stack, `steps` times by the quintic, whose singular
    values land in about [0.7, 1.2], or by these polynomials. `lengths`: the `segments` of the Gram form."""
    tall = g_NIO.shape[1] > g_NIO.shape[2]
    x = (g_NIO.mT if tall else g_NIO).float()
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    coefficients = polynomials("quintic", steps) if isinstance(steps, int) else steps
    x = gram(x, coefficients, lengths) if lengths else direct(x, coefficients)
    return (x.mT if tall else x).to(g_NIO.dtype)


def direct(x_NIO: Tensor, coefficients: Sequence[Coefficients]) -> Tensor:
    """`x_NIO` no higher than wide, of spectral norms up to 1, in whatever dtype."""
    x = x_NIO
    for a, b, c in coefficients:
        r_NII = x @ x.mT
        z_NII = torch.baddbmm(r_NII, r_NII, r_NII, beta=b, alpha=c)
        x = torch.baddbmm(x, z_NII, x, beta=a)
    return x


def gram(x_NIO: Tensor, coefficients: Sequence[Coefficients], lengths: Sequence[int]) -> Tensor:
    """The same; `lengths` add up to the number of iterations."""
    assert sum(lengths) == len(coefficients), (lengths, len(coefficients))
    left = iter(coefficients)
    for length in lengths:
        x_NIO = _segment(x_NIO, [next(left) for _ in range(length)])
    return x_NIO


def _segment(x_NIO: Tensor, coefficients: list[Coefficients]) -> Tensor:
    r_NII, q_NII = x_NIO @ x_NIO.mT, None
    for number, (a, b, c) in enumerate(coefficients, 1):
        z_NII = torch.baddbmm(r_NII, r_NII, r_NII, beta=b, alpha=c)
        if number < len(coefficients):
            half_NII = torch.baddbmm(r_NII, z_NII, r_NII, beta=a)
            r_NII = torch.baddbmm(half_NII, half_NII, z_NII, beta=a)
        if q_NII is None:
            q_NII = z_NII
            q_NII.diagonal(dim1=1, dim2=2).add_(a)
        else:
            q_NII = torch.baddbmm(q_NII, z_NII, q_NII, beta=a)
    return q_NII @ x_NIO
