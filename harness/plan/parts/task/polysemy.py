"""Keys of polysemy; the generator: `harness/data/task/polysemy.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plan.marks import frozen
from harness.plan.parts.task import Walk, check_room

if TYPE_CHECKING:
    from harness.plan.schema import Plan


@dataclass
class Keys(Walk):
    successors: int = frozen(1, least=1, most=4, later=True)  # of a pair, in each of the two maps


def check(plan: "Plan") -> None:
    check_room(plan, "polysemy", "task.polysemy.steps")
