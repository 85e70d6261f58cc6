"""What every part of a model declares of itself: whoever counts, starts, groups or updates parameters asks the part.

A new attention, residual scheme or router is a subclass of `Part` in a file of its kind's folder (`harness/plan/parts`).
"""

from typing import NamedTuple

from torch import nn

# How a parameter starts (harness/model/init.py): a matrix normal with std = matrix_gain / sqrt(fan_in); an output as a matrix,
# or at zero where the plan's init.zero_output is on; an embedding normal with std = embedding_std; a tap (W, X) of a
# convolution as what leaves its input alone; a range uniform between `low` and `high`.
STARTS = ("matrix", "output", "embedding", "zero", "one", "tap", "range")


class Own(NamedTuple):
    """A parameter that a part has itself. `group`: of the learning-rate multipliers and, for `dense` and `expert`, of what
    `optim.matrices` updates."""

    group: str
    start: str = "matrix"
    by_expert: bool = False  # the first axis is of experts, each drawn by its number
    low: float = 0.0
    high: float = 0.0


class Part(nn.Module):
    """`OWN`: every parameter that the module itself holds, by attribute. `CANNOT`: what the part does not support, of
    "document masks" (training within documents), "packed rows" (several sequences in a row with a mask of their own) and
    "decoding" (with a cache of what came before); where a key decides, the instance has its own."""

    OWN: dict[str, Own] = {}
    CANNOT: frozenset[str] = frozenset()
    # Of a part with parameters `by_expert`: how many experts all processes hold, and the numbers of those that this one does.
    num_experts: int
    held: range

    def idle(self) -> int:
        """How many of its own parameters one token does not touch."""
        return 0

    def unread(self) -> int:
        """How many numbers of its tables one token does not read; they are multiplied by nothing anyway."""
        return 0

    def flops(self) -> int:
        """A token's forward and backward beside 6 per matrix parameter that it touches."""
        return 0

    def cache_values(self) -> int:
        """Numbers that decoding keeps of a token."""
        return 0

    def kept_bytes(self) -> int:
        """What autograd keeps of a token for a part that a block usually does not have (`harness/train/memory.py`)."""
        return 0

    def draw(self, seed: int, layer: int) -> None:
        """Fills what is drawn and no parameter. `layer`: the place among the modules of its class."""
