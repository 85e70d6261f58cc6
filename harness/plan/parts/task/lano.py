"""Keys of lano; the generator: `harness/data/task/lano.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plan.marks import frozen
from harness.plan.parts.task import check_room

if TYPE_CHECKING:
    from harness.plan.schema import Plan

SHORTEST, LONGEST = 2, 3  # symbols that one becomes


@dataclass
class Keys:
    grammars: int = frozen(3, least=1, most=24, later=True)  # each has a mark of its own
    depth: int = frozen(4, least=3, most=8, later=True)  # how often the start is rewritten, all of it each time
    symbols: int = frozen(3, least=2, most=16, later=True)  # of a level
    degree: int = frozen(3, least=2, most=8, later=True)  # what a symbol can become, as often each

    @property
    def trained(self) -> tuple[int, ...]:
        """Symbols that any string has at least."""
        return (SHORTEST**self.depth,)

    @property
    def beyond(self) -> tuple[int, ...]:
        """Lengths that few strings of the grammars have, which are known to the generator alone."""
        return ()

    def longest(self, difficulty: int) -> int:
        """Of any grammar whatever; those at hand may have fewer."""
        return LONGEST**self.depth + 2


def check(plan: "Plan") -> None:
    check_room(plan, "lano", "task.lano.depth")
