"""Keys of copying; the generator: `harness/data/task/copy.py`."""

from dataclasses import dataclass

from harness.plan.marks import frozen


@dataclass
class Keys:
    length: int = frozen(8, least=1, later=True)  # most symbols in training; the test goes on to twice as many
    gap: int = frozen(24, least=0, later=True)  # most tokens of noise between
    symbols: int = frozen(64, least=2, most=128, later=True)
