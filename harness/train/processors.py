"""Processor time as the kernel counts it: what was used on the cores that a run may use, and what of it was the run's own.

Everything is read from /proc and, where a control group has a quota, from its `cpu.stat`. What cannot be read there is not
guessed: `NotMeasured` says why.
"""

import os
import resource
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.ranks import Ranks

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
BUSY = (0, 1, 2, 5, 6, 7)  # of a core's line in /proc/stat: user, nice, system, irq, softirq, steal; a guest's is in user


class NotMeasured(Exception):
    """Processor time cannot be known here; the text says why."""


@dataclass(frozen=True)
class Reading:
    """Seconds since some time long ago. `waited`: by thread, since a thread that ends takes its own with it; empty where the
    kernel does not say; `throttled_s`: None without a quota."""

    busy_s: float  # of everybody, on all cores of the run
    own_s: float
    waited: dict[str, float]
    throttled_s: float | None

    def since(self, before: "Reading") -> dict[str, float]:
        found = {"own_s": self.own_s - before.own_s, "busy_s": self.busy_s - before.busy_s}
        if self.waited:
            found["waited_s"] = sum(max(0.0, s - before.waited.get(thread, 0.0)) for thread, s in self.waited.items())
        if self.throttled_s is not None and before.throttled_s is not None:
            found["throttled_s"] = self.throttled_s - before.throttled_s
        return found


class Processors:
    """The cores of a run on this machine. `pids`: its processes, one a rank, this one among them; `threads`: how many they
    keep busy.

    Raises:
        NotMeasured: what others do on these cores cannot be read here.
    """

    def __init__(self, cores: set[int], pids: Sequence[int], proc: Path = PROC, cgroups: Path = CGROUPS):
        self.cores, self.pids, self.proc = sorted(cores), tuple(pids), proc
        _refuse_replaced(proc)
        self.throttling = list(_quotas(proc, cgroups))
        self.tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self.read()

    def read(self) -> Reading:
        """Raises: NotMeasured."""
        try:
            return Reading(self._busy_s(), sum(map(self._own_s, self.pids)), self._waited(), self._throttled_s())
        except (OSError, ValueError, IndexError) as error:
            raise NotMeasured(f"{self.proc} cannot be read: {error}") from error

    def _busy_s(self) -> float:
        lines = dict(line.split(" ", 1) for line in (self.proc / "stat").read_text().splitlines() if line.startswith("cpu"))
        missing = [core for core in self.cores if f"cpu{core}" not in lines]
        if missing or not self.cores:
            raise NotMeasured(f"{self.proc / 'stat'} says nothing of core {missing[0] if missing else 0}")
        ticks = 0
        for core in self.cores:
            numbers = [int(number) for number in lines[f"cpu{core}"].split()]
            ticks += sum(numbers[i] for i in BUSY if i < len(numbers))
        return ticks * self.tick_s

    def _own_s(self, pid: int) -> float:
        """What a process has used with its threads, and children that it has waited for."""
        if pid == os.getpid():
            used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            return sum(each.ru_utime + each.ru_stime for each in used)
        after_name = (self.proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, after_name[11:15])) * self.tick_s

    def _waited(self) -> dict[str, float]:
        found = {}
        for pid in self.pids:
            for thread in (self.proc / str(pid) / "task").glob("*/schedstat"):
                try:
                    found[thread.parent.name] = int(thread.read_text().split()[1]) * 1e-9
                except (OSError, IndexError):  # the thread has ended, or the kernel does not say
                    continue
        return found

    def _throttled_s(self) -> float | None:
        return sum(_throttled_s(path) for path in self.throttling) if self.throttling else None


def of_ranks(ranks: Ranks) -> Processors | str | None:
    """On the first rank those of all ranks, or why they are not measured; None on the others. Every rank calls it."""
    found = ranks.gather((socket.gethostname(), os.getpid(), _allowed()))
    if not ranks.is_first:
        return None
    hosts, pids, cores = zip(*found)
    if len(set(hosts)) > 1:
        return f"its ranks are on {len(set(hosts))} machines"
    try:
        return Processors(set().union(*cores), pids)
    except NotMeasured as why:
        return str(why)


def _allowed() -> set[int]:
    """The cores that some thread of this process may use: a pool may have bound each of its own to one. Empty where the
    system does not say."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    threads = [int(path.name) for path in (PROC / "self" / "task").glob("*")] or [0]
    found: set[int] = set()
    for thread in threads:
        try:
            found |= os.sched_getaffinity(thread)
        except OSError:  # it has ended
            continue
    return found


def _refuse_replaced(proc: Path) -> None:
    """Containers may put a file of their own over /proc/stat, in which nobody else is busy. Raises: NotMeasured."""
    if not (proc / "stat").exists():
        raise NotMeasured(f"there is no {proc / 'stat'} here")
    try:
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return
    if any(line.split()[4:5] == ["/proc/stat"] for line in mounts):
        raise NotMeasured("/proc/stat is not the kernel's own here: something is mounted over it")


def _quotas(proc: Path, cgroups: Path) -> Iterator[Path]:
    """The `cpu.stat` of every control group of this process that has a quota. Raises: NotMeasured where it cannot be read."""
    try:
        lines = [line.split(":", 2) for line in (proc / "self" / "cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = cgroups / controllers if controllers else cgroups
        place = top / path.lstrip("/")
        for group in [place, *place.parents]:
            if group.is_relative_to(top) and _has_quota(group):
                _throttled_s(group / "cpu.stat")
                yield group / "cpu.stat"


def _has_quota(group: Path) -> bool:
    for name in ("cpu.max", "cpu.cfs_quota_us"):
        try:
            first = (group / name).read_text().split()[0]
        except (OSError, IndexError):
            continue
        return first not in ("max", "-1")
    return False


def _throttled_s(stat: Path) -> float:
    """Raises: NotMeasured."""
    try:
        found = dict(line.split() for line in stat.read_text().splitlines())
        return int(found["throttled_usec"]) * 1e-6 if "throttled_usec" in found else int(found["throttled_time"]) * 1e-9
    except (OSError, KeyError, ValueError) as error:
        raise NotMeasured(f"a quota limits its processor time, and {stat} does not say how long it held it back") from error
