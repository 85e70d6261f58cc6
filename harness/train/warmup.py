"""Compilation and warm-up on throw-away state, before the clock starts: afterwards every tensor is exactly as it was.

No copy of the state is held meanwhile, which would be three times the weights: weights are drawn again, and the tensors of a
checkpoint stay mapped to its file, whose pages the kernel may drop and read again.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.evaluate.bpb import score
from harness.model.init import initialize
from harness.train.clock import Clock
from harness.train.machine import synchronize
from harness.train.session import Session

WARMUP_STEPS = 2


def warm_up(session: Session, clock: Clock, val_N, step: int, start: Mapping[str, Any] | None) -> float:
    """Runs the shapes that training and validation will run, then begins anew. Returns tokens per second of warm steps.

    `step`: where training starts from. `start`: the tensors of the checkpoint that the session was restored from; None: it is
    as it was built. The first step of each size that is still to come, and the first scored batch, compile and are booked as
    `compile_s`.
    """
    held = held_meanwhile(session) if start is None else {}
    device, steps, last = session.machine.device, session.steps, session.steps.count - 1
    warm = [min(step + i, last) for i in range(WARMUP_STEPS)]
    with clock.entry("compile_s"):
        session.prepare_products()
        part_N = val_N[: session.scoring_tokens + 1]
        scored = set()
        for index in session.kinds(warm[0]):
            session.step(index, measured=True)
            session.stand_at(index)
            if (low := session.is_low(index)) not in scored:  # it is scored in the format of its last step
                score(session.model, part_N, session.scoring_tokens)
                scored.add(low)
        synchronize(device)
    before = clock.ledger["warmup_s"]
    with clock.entry("warmup_s"):
        for index in warm:
            session.step(index)
        synchronize(device)
    rate = sum(map(steps.tokens, warm)) / (clock.ledger["warmup_s"] - before)
    with clock.entry("warmup_s"):
        if start is None:
            _begin_anew(session, held)
        else:
            session.restore(start)
    session.stand_at(max(step - 1, 0))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return rate


def held_meanwhile(session: Session) -> dict[str, Tensor]:
    """Copies of what a session that was just built holds beside its weights, but for what is all zero: small buffers, and the
    state of an optimizer that starts as something else."""
    drawn = _drawn(session)
    return {name: t.clone() for name, t in session.state().items() if name not in drawn and bool(t.any())}


@torch.no_grad()
def _begin_anew(session: Session, held: dict[str, Tensor]) -> None:
    """Makes it what it was just built as. `held`: what was `held_meanwhile`."""
    initialize(session.model, session.plan.init, session.plan.seed)
    drawn = _drawn(session)
    for name, t in session.state().items():
        if name in held:
            t.copy_(held[name])
        elif name not in drawn:
            t.zero_()


def _drawn(session: Session) -> set[str]:
    return {f"model.{name}" for name, _ in session.model.named_parameters()}
