"""Compilation and warm-up on throw-away state, before the clock starts: afterwards every tensor is exactly as it was."""

import torch

from harness.evaluate.bpb import score
from harness.train.clock import Clock
from harness.train.machine import synchronize
from harness.train.session import Session

WARMUP_STEPS = 2


def warm_up(session: Session, clock: Clock, val_N, step: int) -> float:
    """Runs the shapes that training and validation will run, then restores the state. Returns seconds per warm step.

    `step`: where training starts from. The first step and the first scored batch compile and are booked as `compile_s`.
    """
    saved = session.snapshot()
    device, last = session.machine.device, session.plan.steps - 1
    with clock.entry("compile_s"):
        session.prepare_products()
        session.step(min(step, last), measured=True)
        part_N = val_N[: session.scoring_tokens + 1]
        score(session.model, part_N, session.scoring_tokens, token_bytes_V=session.corpus.token_bytes)
        synchronize(device)
    before = clock.ledger["warmup_s"]
    with clock.entry("warmup_s"):
        for i in range(WARMUP_STEPS):
            session.step(min(step + i, last))
        synchronize(device)
    session.restore(saved)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return (clock.ledger["warmup_s"] - before) / WARMUP_STEPS
