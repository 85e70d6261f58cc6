"""Forward passes that all ranks make together.

Where experts are spread over ranks a pass is an exchange with all of them: all must make as many, in whatever shapes, and one
without work makes a pass of a token. Before it goes on each rank tells the others in one small message how it is, so that all
learn at the same pass that the work is done, that one of them has failed, or has heard a signal. Nobody is left waiting.

Letters: B batch, S sequence, P ranks, J rounds, Q pieces.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import UserError
from harness.evaluate.own_model import OwnModel
from harness.model.where import Cache
from harness.ranks import ALONE, Ranks
from kernels import NonFiniteOperand

RESTS, WORKS, FAILED = range(3)  # how a rank is


class Agreed(KeyboardInterrupt):
    """One of the ranks has heard a signal, whose number is the argument: raised on all of them, before the same pass."""


class AnotherFailed(Exception):
    """Another rank's work has failed; it says why."""


@dataclass(frozen=True)
class Lockstep:
    """`around`: entered around every pass; what ends a pass in the middle on one rank it raises on all. `heard`: the number of
    the signal that this process is to end by, 0 of none."""

    ranks: Ranks = ALONE
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    heard: Callable[[], int] = lambda: 0

    def tell(self, state: int) -> list[int]:
        """Every rank's state, on all of them. Raises: Agreed."""
        told = [[state, self.heard()]]
        if self.ranks.world > 1:
            told = self.ranks.everyones(torch.tensor(told[0], device=self.ranks.device)).tolist()
        if number := max(number for _, number in told):
            raise Agreed(number)
        return [state for state, _ in told]

    @contextmanager
    def round(self) -> Iterator[None]:
        """Around a pass of each rank. Raises: Agreed; NonFiniteOperand on all ranks, that of the first which met one."""
        found: NonFiniteOperand | None = None
        try:
            with self.around():
                yield
        except NonFiniteOperand as fault:
            found = fault
        if FAILED in self.tell(FAILED if found else WORKS):
            faults = self.ranks.everyones_values(found and (found.layer, found.tensor, found.step))
            raise NonFiniteOperand(*next(filter(None, faults))) from found

    def in_order(self, own_JX: Tensor, pieces: int) -> Tensor:
        """(Q, ...) on all ranks. Row j of this rank's is of piece j*P + rank, where there is such a piece."""
        return self.ranks.everyones(own_JX).transpose(0, 1).flatten(0, 1)[:pieces]


ALONE_IN_STEP = Lockstep()


class InStep:
    """An `OwnModel` whose passes all ranks make together, all of them within `until_all_rest`."""

    def __init__(self, own: OwnModel, lockstep: Lockstep):
        self.own, self.lockstep = own, lockstep
        self.context, self.vocab_size, self.packs, self.decodes = own.context, own.vocab_size, own.packs, own.decodes

    def logits(self, token_BS: Tensor, cache: Cache | None = None) -> Tensor:
        """As `OwnModel.logits`. Raises: AnotherFailed, Agreed, and UserError as `Transformer.logits`."""
        self.own.model.check_length(token_BS, cache)  # before others wait for this pass
        self._meet()
        with self.lockstep.around():
            return self.own.logits(token_BS, cache)

    def score(
        self, input_BS: Tensor, target_BS: Tensor, position_BS: Tensor | None = None, visible_BSS: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `LanguageModel.score`. Raises: AnotherFailed, Agreed."""
        self._meet()
        with self.lockstep.around():
            return self.own.score(input_BS, target_BS, position_BS, visible_BSS)

    @contextmanager
    def until_all_rest(self) -> Iterator[None]:
        """Around this rank's passes. While others make more it makes passes of one token.

        Raises: AnotherFailed, Agreed, and what is raised within, of which a UserError ends the passes of all.
        """
        try:
            yield
        except UserError:
            self.lockstep.tell(FAILED)
            raise
        while WORKS in self._meet(RESTS):
            with self.lockstep.around():
                self.own.logits(torch.zeros(1, 1, dtype=torch.int64))

    def _meet(self, state: int = WORKS) -> list[int]:
        if FAILED in (states := self.lockstep.tell(state)):
            raise AnotherFailed
        return states
