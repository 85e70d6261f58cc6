"""Where the time of an expert MLP goes, and of the way of its rows between ranks: named stages that cost one comparison each
unless somebody times them.

with timed(device) as ms:      # kernels.bench
    moe_mlp(...)
ms["up"]                       # milliseconds, summed over the calls inside
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

STAGES = (
    "metadata",
    "gather",
    "up",
    "activation",
    "down",
    "combine",
    "dH",
    "dW",
    "dX",
    "fused",
)  # the last: of a kernel that does all
EXCHANGE = ("counts", "dispatch", "return")  # between ranks; then "combine", of what came home
HEAD_START = 3_000_000  # cycles that a GPU is kept waiting, so that the host is ahead of it while it is timed
_NOTHING = nullcontext()
_open: list[Callable[[str], AbstractContextManager]] = []


def stage(name: str) -> AbstractContextManager:
    """Marks the work inside as stage `name` of STAGES or EXCHANGE."""
    return _open[-1](name) if _open else _NOTHING


@contextmanager
def timed(device: str, named: Callable[[str], str] = str) -> Iterator[dict[str, float]]:
    """Times the stages inside; the dictionary holds milliseconds when the block has ended. On a GPU by events on the stream,
    so that nothing waits in between. `named`: under which name a stage counts, asked when it begins."""
    timer, milliseconds = _Timer(device, named), {}
    try:
        with spans(timer.span):
            yield milliseconds
    finally:
        milliseconds.update(timer.read())


@contextmanager
def spans(span: Callable[[str], AbstractContextManager]) -> Iterator[None]:
    """Every stage inside runs within `span(name)`."""
    _open.append(span)
    try:
        yield
    finally:
        _open.pop()


class _Timer:
    def __init__(self, device: str, named: Callable[[str], str]):
        self.device, self.named, self.spans = device, named, []

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        counted, start = self.named(name), self._now()
        yield
        self.spans.append((counted, start, self._now()))

    def _now(self) -> "float | torch.cuda.Event":
        if self.device != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def read(self) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        if self.device == "cuda":
            torch.cuda.synchronize()
        for name, start, end in self.spans:
            found[name] += start.elapsed_time(end) if self.device == "cuda" else 1e3 * (end - start)
        return dict(found)
