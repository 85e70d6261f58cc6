"""Keys of scrambled; the generator: `harness/data/task/scrambled.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plan.parts.task import Walk, check_room

if TYPE_CHECKING:
    from harness.plan.schema import Plan


@dataclass
class Keys(Walk):
    pass


def check(plan: "Plan") -> None:
    check_room(plan, "scrambled", "task.scrambled.steps")
