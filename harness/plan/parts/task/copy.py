"""Keys of copying; the generator: `harness/data/task/copy.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plan.marks import frozen
from harness.plan.parts.task import check_room, harder

if TYPE_CHECKING:
    from harness.plan.schema import Plan


@dataclass
class Keys:
    length: int = frozen(8, least=1, most=512, later=True)  # most symbols in training; the test goes on to twice as many
    gap: int = frozen(24, least=0, most=4096, later=True)  # most tokens of noise between
    symbols: int = frozen(64, least=8, most=128, later=True)  # of fewer, none alone might be the test's

    @property
    def trained(self) -> tuple[int, ...]:
        return tuple(range(1, self.length + 1))

    @property
    def beyond(self) -> tuple[int, ...]:
        return harder(self.length)

    def longest(self, difficulty: int) -> int:
        return 2 * difficulty + self.gap + 3


def check(plan: "Plan") -> None:
    check_room(plan, "copy", "task.copy.length or task.copy.gap")
