"""Keys of brevo; the generator: `harness/data/task/brevo.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen
from harness.plan.parts.task import check_room, harder

if TYPE_CHECKING:
    from harness.plan.schema import Plan

MOST = 4  # children of a node, and parents


@dataclass
class Keys:
    nodes: int = frozen(10, least=3, most=64, later=True)  # most in training; the test goes on to twice as many
    symbols: int = frozen(64, least=8, most=128, later=True)  # names of nodes

    @property
    def trained(self) -> tuple[int, ...]:
        """Every second one."""
        return tuple(range(self.nodes, 2, -2))[::-1]

    @property
    def beyond(self) -> tuple[int, ...]:
        return harder(self.nodes)

    def longest(self, difficulty: int) -> int:
        edges = sum(min(MOST, later) for later in range(difficulty))
        return 1 + 2 * edges + 3 + difficulty + 1


def check(plan: "Plan") -> None:
    k = plan.task.brevo
    if (most := max(k.beyond)) > k.symbols:
        raise UserError(
            f"task.brevo.symbols={k.symbols} for {most} nodes, which the test has with task.brevo.nodes={k.nodes}",
            f"set task.brevo.symbols={most} or more (up to 128), or task.brevo.nodes={k.symbols // 2} or less",
        )
    check_room(plan, "brevo", "task.brevo.nodes")
