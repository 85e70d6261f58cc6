"""Keys of mano; the generator: `harness/data/task/mano.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plan.marks import frozen
from harness.plan.parts.task import check_room, harder

if TYPE_CHECKING:
    from harness.plan.schema import Plan


@dataclass
class Keys:
    operations: int = frozen(5, least=1, most=128, later=True)  # most in training; the test goes on to twice as many
    modulus: int = frozen(23, least=2, most=64, later=True)

    @property
    def trained(self) -> tuple[int, ...]:
        return tuple(range(1, self.operations + 1))

    @property
    def beyond(self) -> tuple[int, ...]:
        return harder(self.operations)

    def longest(self, difficulty: int) -> int:
        return 2 * difficulty + 4


def check(plan: "Plan") -> None:
    check_room(plan, "mano", "task.mano.operations")
