"""What is known of each task before anything is generated; `harness/plan/parts/__init__.py` says how.

The Keys of a task say its difficulties too: `trained`, those of training, ascending; `beyond`, harder ones that only the test
asks; and `longest(difficulty)`, tokens of the longest instance. All of them must fit in a row, those beyond too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import frozen

if TYPE_CHECKING:
    from harness.plan.schema import Plan

IDS = 256  # of harness/data/vocabulary.py


def harder(most: int) -> tuple[int, ...]:
    """Half as hard again as the hardest of training, and twice as hard."""
    return tuple(sorted({most + (most + 1) // 2, 2 * most}))


def doubled(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... below `most`, and `most`."""
    return (*(1 << i for i in range(most.bit_length()) if 1 << i < most), most)


@dataclass
class Walk:
    """Keys of a walk over symbols that begins with a pair of them: `ngram`, `polysemy`, `scrambled`."""

    symbols: int = frozen(64, least=8, most=128, later=True)  # pairs of them are what there is to know: symbols^2
    steps: int = frozen(32, least=1, most=4096, later=True)  # most in training; the test goes on to twice as many

    @property
    def trained(self) -> tuple[int, ...]:
        return doubled(self.steps)

    @property
    def beyond(self) -> tuple[int, ...]:
        return (2 * self.steps,)

    def longest(self, difficulty: int) -> int:
        return 3 + difficulty


def check_room(plan: "Plan", name: str, turn: str) -> None:
    """`turn`: the keys that make instances shorter.

    Raises:
        UserError: an instance may be longer than a row, or the model has not all ids of the tasks' vocabulary.
    """
    keys, m = getattr(plan.task, name), plan.model
    hardest = max((*keys.trained, *keys.beyond), key=keys.longest)
    if (longest := keys.longest(hardest)) > m.sequence_length:
        raise UserError(
            f"{name} has up to {longest} tokens at difficulty {hardest}, and model.sequence_length={m.sequence_length}",
            f"set model.sequence_length={longest} or more, or less of {turn}",
        )
    if m.vocab_size < IDS:
        raise UserError(f"model.vocab_size={m.vocab_size} with the task {name}", f"set model.vocab_size={IDS} or more")
