"""Keys of Engram, and the hashes that they make; the mathematics: `harness/model/memory/engram.py`."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan

FACTOR_BITS = 31  # of odd factors: with ids of 17 bits a product stays whole in 64


@dataclass
class Keys:
    layers: list[int] = frozen([1], least=0, later=True)  # counted from 0, before whose attention it speaks
    order: int = frozen(3, least=2, most=8, later=True)  # of the longest n-grams
    heads: int = frozen(4, least=1, later=True)  # hashes of each order
    rows: int = frozen(4096, least=2, later=True)  # of each head's table, at least: a prime number of them
    columns: int = frozen(16, least=1, later=True)  # of a row
    taps: int = frozen(4, least=2, most=16, later=True)  # of its convolution


def check(plan: "Plan") -> None:
    layers, m = plan.memory.engram.layers, plan.model
    if not layers or len(set(layers)) < len(layers) or max(layers) >= m.layers:
        raise UserError(
            f"memory.engram.layers={layers} of {m.layers} layers",
            f"name some of 0 to {m.layers - 1}, each once: memory.engram.layers=[{m.layers // 2}]",
        )


def rows_of(keys: Keys, layer: int) -> list[int]:
    """Rows of each head of a layer, of the shortest n-grams first: primes, each of them of one head of one layer."""
    heads = (keys.order - 1) * keys.heads
    first = keys.layers.index(layer) * heads
    return primes(keys.rows, heads * len(keys.layers))[first : first + heads]


def factors_of(keys: Keys, layer: int) -> list[list[int]]:
    """What each head multiplies a token and those before it with: the same for every seed, so that runs differ in what is in
    the tables alone."""
    from harness.keyed import generator  # numpy, which not everybody who reads plans has

    heads = (keys.order - 1) * keys.heads
    words = generator(0, "engram", layer).bit_generator.random_raw(heads * keys.order).tolist()
    odd = [word >> (64 - FACTOR_BITS) | 1 for word in words]
    return [odd[head * keys.order : (head + 1) * keys.order] for head in range(heads)]


def primes(least: int, count: int) -> list[int]:
    """The first `count` primes from `least` on."""
    found: list[int] = []
    candidate = max(least, 2)
    while len(found) < count:
        if all(candidate % divisor for divisor in range(2, math.isqrt(candidate) + 1)):
            found.append(candidate)
        candidate += 1
    return found
