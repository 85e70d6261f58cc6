"""Randomness without state: every draw is keyed by a seed and what it is for.

A generator is built anew from (seed, purpose, ...) wherever one is needed, so what one part draws never moves what another
part gets, and nothing about randomness has to be saved to resume. Philox is counter-based, and numpy promises that its raw
stream (`generator(...).bit_generator.random_raw`) never changes; the distributions of a Generator (`permutation`,
`standard_normal`, ...) may change between numpy releases (NEP 19), which is why a record holds the numpy version.
"""

from hashlib import blake2b
from operator import index

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A fresh Philox generator keyed by the 128-bit BLAKE2b of repr((seed, *purpose)).

    `generator(1, "data order", 3)` always starts the same stream. Numpy integers count as the int they hold; a purpose that
    is neither text nor a whole number is a TypeError, because its repr could differ between two runs.
    """
    words = (index(seed), *(word if isinstance(word, str) else index(word) for word in purpose))
    key = blake2b(repr(words).encode(), digest_size=16, person=b"moe-speedrun").digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
