"""Whether a run has its machine to itself: processor seconds by window of the clock, and looks at peak and GPU off it.

The meter reads the kernel's counters when the clock starts, when it stops and when a window closes, never within a step.
`harness/record/occupancy.py` says what the figures mean and when they cost a run its rank on time.
"""

import time
from typing import Any

from harness.ranks import Ranks
from harness.record.occupancy import Occupancy, busy, share_of, taken_s, threads_kept
from harness.record.rows import WindowOccupancy
from harness.train import gpu
from harness.train.machine import Machine
from harness.train.processors import NotMeasured, Processors, Reading, of_ranks

LEAST_LOOK_S = 0.3  # a shorter look tells a few ticks of the kernel's clock
OWN_BEYOND = 1.05, 0.5  # factor and seconds: where a run has used more than everybody, the counters are not of its machine


class Meter:
    """`found`: from `of_ranks`; `state`: of a checkpoint of `step`, empty at the beginning."""

    def __init__(self, found: Processors | str | None, here: Machine, state: dict[str, Any], step: int = 0):
        self.processors = found if isinstance(found, Processors) else None
        self.threads = threads_kept(here.device, here.threads, here.world_size)
        self.looks_at_gpu = here.device == "cuda" and found is not None
        self.why_not = state.get("not_measured", "begun by a harness that did not measure it" if step else "")
        if (began := state.get("threads", self.threads)) != self.threads:
            self.why_not = self.why_not or f"a resume changed the threads that it keeps busy from {began} to {self.threads}"
        if isinstance(found, str):
            self.why_not = self.why_not or found
        self.total, self.window = dict(state.get("total", {})), dict(state.get("window", {}))
        self.closed_at_s = state.get("closed_at_s", 0.0)
        self.peaks, self.gpu = dict(state.get("peaks", {})), dict(state.get("gpu", {}))
        self.gpu_why_not = state.get("gpu_not_measured", "")
        self.since: Reading | None = None

    def switch(self, on: bool) -> None:
        """The clock starts, or stops."""
        if on == (self.since is not None):
            return
        now = self._read()
        self._add(now)
        self.since = now if on else None

    def _read(self) -> Reading | None:
        if self.processors is None or self.why_not:
            return None
        try:
            return self.processors.read()
        except NotMeasured as why:
            self.why_not = str(why)
            return None

    def _add(self, now: Reading | None) -> None:
        if now is not None and self.since is not None:
            for name, seconds in now.since(self.since).items():
                self.window[name] = self.window.get(name, 0.0) + seconds

    def close_window(self, train_s: float) -> WindowOccupancy | None:
        """What the window came to that ends at `train_s` of the clock; None where nothing is measured."""
        if self.since is not None:
            now = self._read()
            self._add(now)
            self.since = now
        found, wall_s = self.window, train_s - self.closed_at_s
        self.window, self.closed_at_s = {}, train_s
        if self.processors is None or self.why_not or not found:
            return None
        cores, others_s = len(self.processors.cores), found["busy_s"] - found["own_s"]
        row = WindowOccupancy(
            cores=cores, own_s=found["own_s"], others_s=others_s,
            taken_s=taken_s(others_s, cores, self.threads, wall_s) + found.get("throttled_s", 0.0),
        )  # fmt: skip
        row |= {name: found[name] for name in ("waited_s", "throttled_s") if name in found}
        for name, seconds in (row | {"busy_s": found["busy_s"]}).items():
            if name != "cores":
                self.total[name] = self.total.get(name, 0.0) + seconds
        factor, seconds = OWN_BEYOND
        if self.total["own_s"] > factor * self.total["busy_s"] + seconds:
            self.why_not = "the kernel's counters of its cores hold less than the run itself has used"
        return row

    def busy_share(self, row: WindowOccupancy | None, wall_s: float) -> float | None:
        """What others took over a window, where it is more than ranking on time allows; else None."""
        if row is None or not busy(row["taken_s"], row["cores"], self.threads, wall_s):
            return None
        return share_of(row["taken_s"], row["cores"], self.threads, wall_s)

    def look(self, when: str, matmul_peak_flops: float) -> None:
        """Off the clock, while the run computes nothing. `when`: before | middle | after."""
        self.peaks[when] = matmul_peak_flops
        if self.looks_at_gpu and not self.gpu_why_not:
            try:
                self.gpu[when] = gpu.look(own=1)
            except gpu.NotSeen as why:
                self.gpu_why_not = str(why)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; the clock stands."""
        assert self.since is None
        return {
            "not_measured": self.why_not, "total": self.total, "window": self.window, "closed_at_s": self.closed_at_s,
            "threads": self.threads, "peaks": self.peaks, "gpu": self.gpu, "gpu_not_measured": self.gpu_why_not,
        }  # fmt: skip

    def as_record(self, train_s: float) -> Occupancy:
        beside = {"peaks": self.peaks}
        if self.gpu:
            beside["gpu"] = self.gpu
        if self.gpu_why_not:
            beside["gpu_not_measured"] = self.gpu_why_not
        if self.why_not or not self.total:
            return Occupancy(not_measured=self.why_not or "no window was closed", **beside)
        figures, cores = {name: seconds for name, seconds in self.total.items() if name != "busy_s"}, len(self.processors.cores)
        share = share_of(figures["taken_s"], cores, self.threads, train_s)
        return Occupancy(cores=cores, threads=self.threads, share=share, **figures, **beside)


class Look:
    """A short look at who is busy, from its making to `taken`; whatever this process does meanwhile is its own."""

    def __init__(self, found: Processors | str | None):
        self.processors = found if isinstance(found, Processors) else None
        self.begun_s, self.before = time.perf_counter(), self._read()

    def _read(self) -> Reading | None:
        try:
            return self.processors.read() if self.processors else None
        except NotMeasured:
            return None

    def taken(self, here: Machine, least_s: float = LEAST_LOOK_S) -> float | None:
        """The share that others take of the processor time that a run needs here; None where it is not known."""
        wall_s, now = time.perf_counter() - self.begun_s, self._read()
        if self.before is None or now is None or wall_s < least_s:
            return None
        found, cores = now.since(self.before), len(self.processors.cores)
        threads = threads_kept(here.device, here.threads, here.world_size)
        taken = taken_s(found["busy_s"] - found["own_s"], cores, threads, wall_s) + found.get("throttled_s", 0.0)
        share = share_of(taken, cores, threads, wall_s)
        return share if busy(taken, cores, threads, wall_s) else 0.0


def look_alone() -> Look:
    """At this process's own cores, where it is the only one of its run."""
    return Look(of_ranks(Ranks(0, 1)))
