"""Linear CKA (Kornblith et al., arXiv 1905.00414), debiased: HSIC as Song et al. (JMLR 13, 2012, equation 5) estimate it
without bias, as Nguyen et al. (arXiv 2010.15327) use it. Of streams that have nothing in common the plain one says about
W / (N + W).

Letters: N tokens, W width, D depths.
"""

from collections.abc import Sequence

import numpy as np

TOKENS = 1024  # of all tasks together, evenly taken


def cka(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> list[list[float | None]]:
    """CKA of each (N, W) of `first` with each (N, W') of `second`, of the same 4 tokens or more: 1 of what is equal up to
    rotation and scale, about 0 of what is independent. None where one of the two does not vary."""
    grams = [[_gram(x_NW) for x_NW in side] for side in (first, second)]
    own = [[_hsic(gram, gram) for gram in side] for side in grams]
    return [
        [_hsic(one, other) / (a * b) ** 0.5 if a > 0 and b > 0 else None for other, b in zip(grams[1], own[1])]
        for one, a in zip(grams[0], own[0])
    ]


def _gram(x_NW: np.ndarray) -> np.ndarray:
    """Products of tokens with centred columns, scaled to 1 in the mean, without those with themselves."""
    x_NW = x_NW.astype(np.float64)
    x_NW = x_NW - x_NW.mean(0)
    gram_NN = x_NW @ x_NW.T
    scale = np.trace(gram_NN) / len(x_NW)
    np.fill_diagonal(gram_NN, 0.0)
    return gram_NN / scale if scale > 0 else gram_NN


def _hsic(one_NN: np.ndarray, other_NN: np.ndarray) -> float:
    n = len(one_NN)
    both = one_NN.sum() * other_NN.sum() / ((n - 1) * (n - 2)) - 2 * (one_NN.sum(0) @ other_NN.sum(0)) / (n - 2)
    return float(((one_NN * other_NN).sum() + both) / (n * (n - 3)))
