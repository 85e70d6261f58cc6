"""Draws of whole numbers and orders, made of raw Philox words alone: the same in every release of numpy."""

from collections.abc import Sequence
from typing import Any

from harness.keyed import generator

AT_ONCE = 256  # words fetched together


class Draws:
    """A stream keyed by (seed, purpose, ...), as `harness.keyed.generator` has it."""

    def __init__(self, seed: int, *purpose: str | int):
        self._words = generator(seed, *purpose).bit_generator
        self._fetched: list[int] = []

    def word(self) -> int:
        """The next 64 bits."""
        if not self._fetched:
            self._fetched = self._words.random_raw(AT_ONCE).tolist()[::-1]
        return self._fetched.pop()

    def below(self, limit: int) -> int:
        """A whole number in [0, limit), each equally often to within limit / 2^64."""
        return self.word() * limit >> 64

    def between(self, least: int, most: int) -> int:
        """A whole number from `least` to `most`, both among them."""
        return least + self.below(most - least + 1)

    def share(self) -> float:
        """In [0, 1), of 53 bits."""
        return (self.word() >> 11) * 2.0**-53

    def one_of(self, things: Sequence[Any]) -> Any:
        return things[self.below(len(things))]

    def some(self, limit: int, count: int) -> list[int]:
        """`count` different whole numbers below `limit`, in random order (Fisher and Yates)."""
        pool = list(range(limit))
        for i in range(count):
            j = i + self.below(limit - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:count]

    def weighted(self, cumulative: Sequence[float]) -> int:
        """The first index whose cumulative weight is above a share of the last one."""
        at = self.share() * cumulative[-1]
        return next(index for index, value in enumerate(cumulative) if at < value)
