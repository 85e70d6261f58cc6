"""What each process runs for test_train_memory.py: steps of a plan, and what they allocate. Not a test itself.

usage: memory_on_ranks.py FOLDER WORD ...        each rank writes FOLDER/RANK.json: what `taken` says
"""

import json
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import micro
import torch

from harness.ranks import Ranks, join, leave
from harness.train.determinism import set_torch


def allocated(work) -> tuple[int, int]:
    """The most that was held at a time, and what is left at the end, beside what was there before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = list(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))
    return max(held, default=0), held[-1] if held else 0


def size(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


class Messages:
    """Counts the bytes that a rank sends to others, by method of `Ranks`, while it is entered."""

    def __init__(self):
        self.sent = dict.fromkeys(("exchange_rows", "exchange", "everyones"), 0)
        self.own = {name: getattr(Ranks, name) for name in self.sent}

    def __enter__(self) -> dict[str, int]:
        for name, own in self.own.items():
            setattr(Ranks, name, self._counted(name, own))
        return self.sent

    def __exit__(self, *_) -> None:
        for name, own in self.own.items():
            setattr(Ranks, name, own)

    def _counted(self, name, own):
        def counted(ranks, t, *rows):
            others = ranks.world - 1
            away = {"exchange": others / ranks.world, "everyones": others}
            if name == "exchange_rows":
                away[name] = 1 - rows[0][ranks.rank] / max(1, len(t))
            self.sent[name] += away[name] * t.numel() * t.element_size()
            return own(ranks, t, *rows)

        return counted


def taken(words: tuple[str, ...], ranks: Ranks) -> dict[str, Any]:
    """Bytes: what a session holds of weights and optimizer state, and at most in a measured step; what it sends in one. The
    last reference to a message may go in a thread of gloo, where the profiler sees nothing freed: so the least of three."""
    set_torch()
    session = micro.session(*words, ranks=ranks)
    with Messages() as sent:
        session.step(0)
    peaks = [allocated(lambda step=step: session.step(step, measured=True))[0] for step in (1, 2, 3)]
    experts = {name: p for name, p in session.model.named_parameters() if p.ndim == 3}
    state = session.optimizer.state()
    weights, moments = size(session.model.parameters()), size(state.values())
    return {
        "weights": weights, "moments": moments, "held": weights + moments + min(peaks), "experts": size(experts.values()),
        "moments of experts": size(t for name, t in state.items() if t.ndim == 3 and name.endswith(tuple(experts))),
        "sent": sent,
    }  # fmt: skip


if __name__ == "__main__":
    folder, *words = sys.argv[1:]
    together = join(timeout_s=120)
    Path(folder, f"{together.rank}.json").write_text(json.dumps(taken(tuple(words), together)))
    leave(together)
