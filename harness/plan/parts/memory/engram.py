"""Keys of Engram; the mathematics: `harness/model/memory/engram.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan


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
        raise UserError(f"memory.engram.layers={layers} of {m.layers} layers", f"name some of 0 to {m.layers - 1}, each once")
