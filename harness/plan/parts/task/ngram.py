"""Keys of ngram; the generator: `harness/data/task/ngram.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plan.marks import frozen
from harness.plan.parts.task import Walk, check_room

if TYPE_CHECKING:
    from harness.plan.schema import Plan


@dataclass
class Keys(Walk):
    successors: int = frozen(2, least=1, most=4, later=True)  # of a pair


def check(plan: "Plan") -> None:
    check_room(plan, "ngram", "task.ngram.steps")
