"""Marks around what no operator's name tells, set from outside: training itself has none of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.profiler import record_function

from harness.bench.profile.parts import HEAD, MARK, NORMS, OPTIMIZER, STAGE
from harness.plan import parts
from kernels.stages import spans

if TYPE_CHECKING:
    from harness.train.session import Session


def mark(session: "Session") -> None:
    """Marks the head, the optimizers, and what is done to gradients before them, for as long as the session lives."""
    head = session.model.head
    # what a module's call ends in, compiled or not: the mark stays outside of what is compiled
    head._compiled_call_impl = _within(HEAD, head._compiled_call_impl or head._call_impl)
    optimizer = session.optimizer
    optimizer.gradient_norms = _within(NORMS, optimizer.gradient_norms)
    optimizer.clip = _within(NORMS, optimizer.clip)
    for name, update in optimizers(session):
        update.step = _within(OPTIMIZER + name, update.step)


def optimizers(session: "Session") -> list[tuple[str, Any]]:
    """(name, update) of each optimizer of the session."""
    named = {parts.part("optim", name): name for name in (session.plan.optim.matrices, session.plan.optim.others)}
    return [(named[type(update)], update) for update in session.optimizer.parts]


@contextmanager
def stages() -> Iterator[None]:
    """Within it the stages of an expert MLP are marks."""
    with spans(lambda name: record_function(MARK + STAGE[name])):
        yield


def _within(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def marked(*arguments: Any, **named: Any) -> Any:
        with record_function(MARK + part):
            return work(*arguments, **named)

    return marked
