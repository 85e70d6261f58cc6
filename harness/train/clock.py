"""The clock and its ledger. Training time starts before the first counted step and stops for validation and checkpoints;
everything else counts. The ledger says where the whole wall time went."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENTRIES = (
    "setup_s", "compile_s", "warmup_s", "train_s", "validation_s", "checkpoint_s", "peaks_s", "final_evaluation_s",
)  # fmt: skip
TRAINING = "train_s"


class Clock:
    """`ledger` carries over a resume: a resumed run goes on from its checkpoint's seconds. `switched` hears whether training
    time runs, whenever that may have changed."""

    def __init__(
        self, ledger: dict[str, float] | None = None, process_started: float | None = None,
        switched: Callable[[bool], None] = lambda on: None,
    ):  # fmt: skip
        self.ledger = {entry: 0.0 for entry in ENTRIES} | (ledger or {})
        self.open: list[str] = []
        self.switched = switched
        self.booked = time.perf_counter()
        self.before = sum(self.ledger.values())
        self.started = process_started if process_started is not None else time.perf_counter()

    @contextmanager
    def entry(self, name: str) -> Iterator[None]:
        """Books what passes inside to `name`; an entry within an entry stops the outer one."""
        assert name in ENTRIES, name
        self._book()
        self.open.append(name)
        self.switched(name == TRAINING)
        try:
            yield
        finally:
            self.switched(self.open[-2:-1] == [TRAINING])
            self._book()
            self.open.pop()

    def _book(self) -> None:
        now = time.perf_counter()
        if self.open:
            self.ledger[self.open[-1]] += now - self.booked
        self.booked = now

    @property
    def train_s(self) -> float:
        self._book()
        return self.ledger[TRAINING]

    def as_record(self) -> dict[str, float]:
        """Seconds per entry, `wall_s` in all, and `other_s`: what no entry explains (imports, figures, the record)."""
        self._book()
        wall = self.before + time.perf_counter() - self.started
        return self.ledger | {"other_s": max(0.0, wall - sum(self.ledger.values())), "wall_s": wall}
