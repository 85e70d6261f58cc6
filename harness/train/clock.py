"""The clock and its ledger. Training time starts before the first counted step and stops for validation and checkpoints;
everything else counts. The ledger says where the whole wall time went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

ENTRIES = ("setup_s", "compile_s", "warmup_s", "train_s", "validation_s", "checkpoint_s", "final_evaluation_s")


class Clock:
    """`ledger` carries over a resume: a resumed run goes on from its checkpoint's seconds."""

    def __init__(self, ledger: dict[str, float] | None = None, process_started: float | None = None):
        self.ledger = {entry: 0.0 for entry in ENTRIES} | (ledger or {})
        self.before = sum(self.ledger.values())
        self.started = process_started if process_started is not None else time.perf_counter()

    @contextmanager
    def entry(self, name: str) -> Iterator[None]:
        assert name in ENTRIES, name
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ledger[name] += time.perf_counter() - start

    @property
    def train_s(self) -> float:
        return self.ledger["train_s"]

    def as_record(self) -> dict[str, float]:
        """Seconds per entry, `wall_s` in all, and `other_s`: what no entry explains (imports, figures, the record)."""
        wall = self.before + time.perf_counter() - self.started
        return self.ledger | {"other_s": max(0.0, wall - sum(self.ledger.values())), "wall_s": wall}
