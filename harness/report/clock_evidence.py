"""Whether what a record says of its machine follows from its windows: the processor seconds of its clock, and the words."""

import math
from collections.abc import Iterator

from harness.record.occupancy import Occupancy, share_of, taken_s, threads_kept, untimed_reasons
from harness.report.run_data import RunData

SUMMED = ("own_s", "others_s", "taken_s", "waited_s", "throttled_s")
CLOSE_S = 1e-6  # sums of a few thousand floats


def whose_machine(run: RunData) -> Iterator[str]:
    """One sentence for each thing that does not hold; nothing of a record that is too old to know."""
    record = run.record
    found, said = record.occupancy, untimed_reasons(record.occupancy, record.hardware_class)
    windows = [row["occupancy"] for row in run.windows if "occupancy" in row]
    if found is None:
        if windows or record.untimed_reasons:
            yield "occupancy is missing, although its windows or its untimed_reasons speak of it"
        return
    if bool(record.untimed_reasons) != bool(said):  # words may be put better later; whether there are any may not change
        yield f"untimed_reasons are {record.untimed_reasons!r}, its occupancy gives {said!r}"
    if record.hardware.device == "cuda" and not (found.gpu or found.gpu_not_measured):
        yield "occupancy says nothing of the GPU that it ran on"
    if found.not_measured:
        return
    device, ranks = record.hardware.device or "cpu", record.hardware.world_size or 1
    if found.threads != (kept := threads_kept(device, record.hardware.threads or 1, ranks)):
        yield f"occupancy.threads is {found.threads}, a run on this hardware keeps {kept} busy"
    if len(windows) != len(run.windows):
        yield f"occupancy states seconds, and only {len(windows)} of {len(run.windows)} windows do"
        return
    yield from _sums(run, found)
    yield from _windows(run, found.threads)


def _sums(run: RunData, found: Occupancy) -> Iterator[str]:
    for name in SUMMED:
        total = sum(row["occupancy"].get(name, 0.0) for row in run.windows)
        if abs((getattr(found, name) or 0.0) - total) > CLOSE_S:
            yield f"occupancy.{name} is {getattr(found, name)!r}, its windows sum to {total!r}"
    share = share_of(found.taken_s, found.cores, found.threads, run.record.clock.train_s)
    if not math.isclose(found.share, share, rel_tol=1e-9, abs_tol=1e-12):
        yield f"occupancy.share is {found.share!r}, its seconds give {share!r}"


def _windows(run: RunData, threads: int) -> Iterator[str]:
    begun_s = 0.0
    for row in run.windows:
        it, wall_s = row["occupancy"], row["train_s"] - begun_s
        begun_s = row["train_s"]
        taken = taken_s(it["others_s"], it["cores"], threads, wall_s) + it.get("throttled_s", 0.0)
        if abs(taken - it["taken_s"]) > CLOSE_S:
            yield f"metrics.jsonl: the window of step {row['step']} says others took {it['taken_s']!r} s, it gives {taken!r}"
            return
