"""How well grades part planted noise from the rest: AUC, the probability that a clean document is graded above a document of
noise, ties half (Hanley and McNeil 1982). 0.5: the grader sees no difference; below it takes noise for the better."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.keyed import generator

RESAMPLES = 1000
ENDS = (0.025, 0.975)  # of resamples: a 95% interval


@dataclass(frozen=True)
class Auc:
    """`low`, `high`: the bootstrap's interval over documents, clean ones and noise drawn each for themselves. A grader without
    an error has none in any resample either."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def auc(clean: Sequence[float], noise: Sequence[float]) -> Auc:
    """The AUC of grades: those of clean documents and those of noise, at least one each."""
    both = np.unique(np.concatenate([clean, noise]), return_inverse=True)[1]
    ranks = both[: len(clean)], both[len(clean) :]
    found = np.sort([_of(*(_drawn(some, number, side) for side, some in enumerate(ranks))) for number in range(RESAMPLES)])
    low, high = (float(found[round(end * (RESAMPLES - 1))]) for end in ENDS)
    return Auc(_of(*ranks), low, high)


def _of(clean: np.ndarray, noise: np.ndarray) -> float:
    """The AUC of ranks, whole numbers from 0."""
    size = int(max(clean.max(), noise.max())) + 1
    clean_R, noise_R = (np.bincount(some, minlength=size) for some in (clean, noise))
    below_R = np.cumsum(noise_R) - noise_R
    return float((clean_R * (below_R + noise_R / 2)).sum() / (len(clean) * len(noise)))


def _drawn(ranks: np.ndarray, number: int, side: int) -> np.ndarray:
    """As many of them, drawn with replacement."""
    words = generator(0, "auc", number, side).bit_generator.random_raw(len(ranks))
    return ranks[(words % np.uint64(len(ranks))).astype(np.int64)]
