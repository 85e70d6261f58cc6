"""The live line: one that rewrites itself on a terminal, one every few seconds elsewhere. A run goes on without it where
standard output cannot be written."""

import sys
import time
from dataclasses import dataclass

from harness.terminal import tell, warn

QUIET_INTERVAL_S = 10.0


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes / 60:.1f} h"


@dataclass
class Glance:
    """What the line shows. `loss` in nats, `bits` in bits per token, `entropy_ratio` of the worst layer or None; `taken`: by
    other processes of the processor time, None where the machine is the run's own; `unit`: of `slice_bpb`."""

    step: int
    steps: int
    tokens: int
    loss: float
    bits: float
    tokens_per_second: float
    mfu: float
    entropy_ratio: float | None
    eta_s: float
    slice_bpb: float | None
    taken: float | None = None
    unit: str = "bpb"


class Progress:
    def __init__(self, quiet: bool = False):
        self.quiet, self.live = quiet, sys.stdout is not None and sys.stdout.isatty()
        self.lost: str | None = None  # why a line could not be written
        self.last = -QUIET_INTERVAL_S

    def show(self, g: Glance) -> None:
        if not self._due(g.step == g.steps):
            return
        parts = [
            f"step {g.step:,}/{g.steps:,}", f"{g.tokens:,} tokens", f"loss {g.loss:.3f}", f"train {g.bits:.3f} bits",
            f"val {g.slice_bpb:.4f} {g.unit}" if g.slice_bpb is not None else "val -",
            f"{g.tokens_per_second:,.0f} tok/s", f"MFU {g.mfu:.0%}",
        ]  # fmt: skip
        if g.entropy_ratio is not None:
            parts.append(f"entropy {g.entropy_ratio:.3f}")
        parts.append(f"ETA {duration(g.eta_s)}")
        if g.taken is not None:
            parts.append(f"machine busy: others took {g.taken:.0%}")
        self._print("  ".join(parts))

    def count(self, what: str, done: int, total: int) -> None:
        """How far work is that has no steps; off a terminal nothing when it is done, for its result follows."""
        if self.live and done == total:
            self._tell("\r\x1b[K", end="")
        elif done < total and self._due(False):
            self._print(f"{done:,} of {total:,} {what}")

    def _due(self, last: bool) -> bool:
        now = time.monotonic()
        if self.quiet or (not self.live and now - self.last < QUIET_INTERVAL_S and not last):
            return False
        self.last = now
        return True

    def _print(self, line: str) -> None:
        self._tell(f"\r\x1b[K{line}" if self.live else line, end="" if self.live else "\n")

    def say(self, sentence: str) -> None:
        """A line that stays."""
        if not self.quiet:
            self._tell(f"\r\x1b[K{sentence}" if self.live else sentence)

    def _tell(self, text: str, end: str = "\n") -> None:
        lost = tell(text, end)
        if lost and not self.lost:
            warn(f"warning: standard output cannot be written ({lost}); the run goes on, what it says there is lost")
        self.lost = self.lost or lost
