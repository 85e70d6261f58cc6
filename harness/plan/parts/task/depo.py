"""Keys of depo; the generator: `harness/data/task/depo.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen
from harness.plan.parts.task import check_room, harder

if TYPE_CHECKING:
    from harness.plan.schema import Plan


@dataclass
class Keys:
    entities: int = frozen(12, least=5, most=128, later=True)  # N: most of a cycle; the test's have as many
    hops: int = frozen(4, least=1, most=127, later=True)  # K: most in training
    queries: int = frozen(4, least=1, most=128, later=True)  # most of an instance of training; the test's have one
    symbols: int = frozen(8, least=1, most=64, later=True)  # m: a word ends with one of as many others
    word: int = frozen(2, least=1, most=4, later=True)  # most symbols of a word, the last one included

    @property
    def trained(self) -> tuple[int, ...]:
        return tuple(range(1, self.hops + 1))

    @property
    def beyond(self) -> tuple[int, ...]:
        return tuple(hops for hops in harder(self.hops) if hops < self.entities)

    @property
    def words(self) -> int:
        """How many there are."""
        return sum(self.symbols**length for length in range(1, self.word + 1))

    def longest(self, difficulty: int) -> int:
        queries = min(self.queries, self.entities) if difficulty in self.trained else 1
        return 1 + 2 * self.entities * self.word + queries * (difficulty + 2 * self.word + 1)


def check(plan: "Plan") -> None:
    k = plan.task.depo
    if k.hops >= k.entities:
        raise UserError(
            f"task.depo.hops={k.hops} in a cycle of task.depo.entities={k.entities}, which leads back to its start",
            f"set task.depo.hops={k.entities - 1} or less, or more entities",
        )
    if k.words < k.entities:
        raise UserError(
            f"task.depo.entities={k.entities}, and task.depo.symbols={k.symbols} make {k.words} words of "
            f"task.depo.word={k.word} or less",
            "set more task.depo.symbols, longer words or fewer entities",
        )
    check_room(plan, "depo", "task.depo.entities, task.depo.word or task.depo.queries")
