"""Whose the processors were while a run trained, as its record says it, and the one rule of when its seconds may be ranked.

Letters: C cores that the run may use, N of them that it keeps busy (its threads, C at most). On a machine with more cores than
that others may use the C - N it leaves without slowing it: only what they take beyond counts.
"""

from collections.abc import Iterator
from typing import Self

from pydantic import model_validator

from harness import values as v
from harness.plan.bounds import TAKEN
from harness.revision import revision_of

MEASURED_SINCE = 3  # the revision; records of earlier ones know nothing of their machine, and keep their rank on time
GPU_THREADS = 2  # of a rank on a GPU: one that launches kernels, one of autograd
TICK_S = 0.01  # what the kernel counts a core's time in
FIGURES = ("cores", "threads", "own_s", "others_s", "taken_s", "share")


def taken_s(others_s: float, cores: int, threads: int, wall_s: float) -> float:
    """Processor seconds that others took from a run. Where it leaves no core alone it is all that they used, and may be below
    0 by a tick or two, so that sums over short windows stay right."""
    spare = cores - threads
    return max(0.0, others_s - spare * wall_s) if spare > 0 else others_s


def threads_kept(device: str, threads: int, ranks: int) -> int:
    """How many threads a run keeps busy. `threads`: of a rank's pool."""
    return ranks * (GPU_THREADS if device == "cuda" else threads)


def share_of(taken: float, cores: int, threads: int, wall_s: float) -> float:
    """What was taken, as a share of the processor time of the N cores that a run keeps busy."""
    return max(0.0, taken) / (min(cores, threads) * wall_s)


def busy(taken: float, cores: int, threads: int, wall_s: float) -> bool:
    """Whether others take more than ranking on time allows, for certain: a short look may be wrong by a tick a core."""
    return share_of(taken - cores * TICK_S, cores, threads, wall_s) > TAKEN


class GpuLook(v.Model):
    """What nvidia-smi says of the GPU while the run computes nothing on it; it may keep any of this to itself."""

    others: v.Whole = v.absent()  # processes that compute on it, besides the run's
    utilization: v.Share = v.absent()  # by others, since the run has stood still for long enough
    clock_mhz: v.Positive = v.absent()
    most_clock_mhz: v.Positive = v.absent()


class Occupancy(v.Model):
    """Processor seconds while the clock ran, all threads together. `own_s`: of the run; `others_s`: of other processes on its
    cores, the time that a hypervisor took included; `taken_s`: what of it the run missed, with the time that a quota held it
    back; `share`: that over the time of its threads. `peaks`: matmul FLOP/s "before", in the "middle" and "after"."""

    not_measured: v.Filled = v.absent()  # why there are no seconds
    cores: v.Count = v.absent()
    threads: v.Count = v.absent()
    own_s: v.Number = v.absent()
    others_s: v.Number = v.absent()
    taken_s: v.Number = v.absent()
    share: v.Least0 = v.absent()
    waited_s: v.Least0 = v.absent()  # that threads of the run were ready and had no core, one waiting for another among it
    throttled_s: v.Least0 = v.absent()  # by a quota of a control group, where there is one
    peaks: dict[v.Name, v.Positive]
    gpu: dict[v.Name, GpuLook] = v.absent()  # by when, as `peaks`
    gpu_not_measured: v.Filled = v.absent()  # why there is nothing of the GPU; neither stands in a run without one

    @model_validator(mode="after")
    def _is_measured_or_says_why_not(self) -> Self:
        missing = [name for name in FIGURES if name not in self.model_fields_set]
        if self.not_measured is None and missing:
            raise v.broken(f"{missing[0]} is missing, and not_measured does not say why")
        return self


def untimed_reasons(occupancy: Occupancy | None, hardware_class: str) -> list[str]:
    """Why the seconds of a run are not ranked; empty where its machine was its own, or its record too old to know."""
    if occupancy is None:
        old = revision_of(hardware_class) < MEASURED_SINCE
        return [] if old else ["its record does not say whether its machine was its own"]
    return [*_of_processors(occupancy), *_of_gpu(occupancy)]


def _of_processors(it: Occupancy) -> Iterator[str]:
    if it.not_measured:
        yield f"whether its processors were its own was not measured: {it.not_measured}"
    elif it.share > TAKEN:
        kept = min(it.cores, it.threads)
        whose = f"its {kept} cores" if kept > 1 else "its core"
        yield f"other processes took {it.share:.1%} of the processor time of {whose}, ranking on time allows {TAKEN:.0%}"


def _of_gpu(it: Occupancy) -> Iterator[str]:
    if it.gpu_not_measured:
        yield f"whether its GPU was its own was not measured: {it.gpu_not_measured}"
    for when, look in (it.gpu or {}).items():
        if look.others:
            yield f"{look.others} other process{'es' if look.others > 1 else ''} on its GPU ({when})"
        if (look.utilization or 0.0) > TAKEN:
            yield f"others kept its GPU {look.utilization:.0%} busy ({when}), ranking on time allows {TAKEN:.0%}"
