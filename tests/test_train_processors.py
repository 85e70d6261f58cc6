"""Processor time as the kernel counts it, from forged files of /proc, and the rule of what is taken from a run."""

import os
from types import SimpleNamespace

import pytest

from harness.ranks import Ranks
from harness.record.occupancy import Occupancy, busy, share_of, taken_s, untimed_reasons
from harness.train import processors
from harness.train.processors import NotMeasured, Processors, of_ranks

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def machine(tmp_path):
    """A forged /proc and /sys/fs/cgroup, with a process of its own beside this one."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    groups.mkdir()

    def stat(**cores):
        """Seconds by core: user, nice, system, idle, iowait, irq, softirq, steal, guest."""
        lines = [f"{name} {' '.join(str(round(s * TICKS)) for s in seconds)} 0" for name, seconds in cores.items()]
        (proc / "stat").write_text("\n".join(["cpu  1 2 3 4 5 6 7 8 9 10", *lines, "intr 123 0 0"]) + "\n")

    def process(pid, used_s, waited_s):
        place = proc / str(pid)
        (place / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        (place / "stat").write_text(f"{pid} (a (b) c) R 1 1 1 0 -1 0 0 0 0 0 {round(used_s * TICKS)} 0 0 0 20 0 1 0 0")
        (place / "task" / str(pid) / "schedstat").write_text(f"5 {round(waited_s * 1e9)} 7\n")

    def group(line, **files):
        (proc / "self" / "cgroup").write_text(f"{line}\n")
        place = groups / line.split(":", 2)[2].lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name.replace("_", ".")).write_text(text)

    found = SimpleNamespace(stat=stat, process=process, group=group, proc=proc, groups=groups)
    found.look = lambda cores=(0, 1), pids=(77,): Processors(set(cores), pids, proc, groups)
    stat(cpu0=(1, 0, 0, 9, 0, 0, 0, 0, 0), cpu1=(1, 0, 0, 9, 0, 0, 0, 0, 0), cpu2=(5, 0, 0, 5, 0, 0, 0, 0, 0))
    process(77, 1.0, 0.5)
    return found


def test_what_others_use_is_what_its_cores_count_and_the_run_has_not_used(machine):
    own = machine.look()
    before = own.read()
    machine.stat(cpu0=(2, 1, 0.5, 9, 3, 0.2, 0.3, 0.5, 2), cpu1=(4, 0, 0, 9, 0, 0, 0, 0, 0), cpu2=(50, 0, 0, 5, 0, 0, 0, 0, 0))
    machine.process(77, 3.0, 1.75)
    found = own.read().since(before)
    assert found == pytest.approx({"busy_s": 1 + 1 + 0.5 + 0.2 + 0.3 + 0.5 + 3, "own_s": 2.0, "waited_s": 1.25})


def test_processes_of_other_ranks_are_the_runs_own(machine):
    machine.process(78, 0.5, 0.0)
    own = machine.look(pids=(77, 78))
    before = own.read()
    machine.process(77, 2.0, 0.5), machine.process(78, 1.0, 0.25)
    found = own.read().since(before)
    assert found["own_s"] == pytest.approx(1.5) and found["waited_s"] == pytest.approx(0.25)


def test_a_thread_that_ends_takes_none_of_the_others_waiting_with_it(machine):
    machine.process(78, 0.5, 9.0)
    own = machine.look(pids=(77, 78))
    before = own.read()
    (machine.proc / "78" / "task" / "78" / "schedstat").unlink()
    machine.process(77, 2.0, 0.75)
    assert own.read().since(before)["waited_s"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "line, files",
    [
        ("0::/a/b", {"cpu_max": "150000 100000\n", "cpu_stat": "usage_usec 5\nthrottled_usec 250000\n"}),
        ("4:cpu:/a", {}),
        ("0::/", {"cpu_max": "max 100000\n"}),
    ],
)
def test_a_quota_that_throttles_is_counted_and_none_is_not(machine, line, files):
    machine.group(line, **files)
    own = machine.look()
    before = own.read()
    assert (before.throttled_s is None) == (not files.get("cpu_stat"))
    if files.get("cpu_stat"):
        machine.group(line, **{"cpu_stat": "throttled_usec 1250000\n"})
        assert own.read().since(before)["throttled_s"] == pytest.approx(1.0)


def test_a_quota_of_an_older_kind_is_counted_too(machine):
    machine.group("0::/")
    (machine.proc / "self" / "cgroup").write_text("3:cpu,cpuacct:/x\n")
    place = machine.groups / "cpu,cpuacct" / "x"
    place.mkdir(parents=True)
    (place / "cpu.cfs_quota_us").write_text("100000\n")
    (place / "cpu.stat").write_text("nr_periods 3\nthrottled_time 2500000000\n")
    assert machine.look().read().throttled_s == pytest.approx(2.5)


def test_what_cannot_be_read_is_not_measured_and_never_nothing(machine):
    with pytest.raises(NotMeasured, match="says nothing of core 5"):
        machine.look(cores=(0, 5))
    machine.group("0::/a", cpu_max="150000 100000\n")
    with pytest.raises(NotMeasured, match="a quota limits its processor time"):
        machine.look()
    (machine.proc / "self" / "cgroup").unlink()
    (machine.proc / "self" / "mountinfo").write_text("1 2 0:3 / /proc rw\n5 1 0:9 /proc/stat /proc/stat rw - fuse.lxcfs\n")
    with pytest.raises(NotMeasured, match="mounted over it"):
        machine.look()
    (machine.proc / "self" / "mountinfo").unlink()
    (machine.proc / "stat").unlink()
    with pytest.raises(NotMeasured, match="there is no"):
        machine.look()


def test_a_rank_that_is_gone_is_not_measured(machine):
    own = machine.look()
    (machine.proc / "77" / "stat").unlink()
    with pytest.raises(NotMeasured, match="cannot be read"):
        own.read()


class Several(Ranks):
    def gather(self, value):
        return [value, ("elsewhere" if self.far else value[0], os.getpid(), value[2])]


@pytest.mark.parametrize("far", [False, True])
def test_ranks_of_one_machine_are_measured_together_and_those_of_several_are_not(far, monkeypatch):
    monkeypatch.setattr(Several, "far", far, raising=False)
    found = of_ranks(Several(0, 2))
    assert found == "its ranks are on 2 machines" if far else found.pids == (os.getpid(), os.getpid())


def test_the_threads_that_wait_have_the_cores_of_all_of_them(monkeypatch):
    """A pool that binds its threads leaves the first thread one core of its own."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {thread % 4})
    threads = {int(name) % 4 for name in os.listdir("/proc/self/task")}
    assert processors._allowed() == threads


def test_where_the_system_tells_no_cores_nothing_is_measured(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert "says nothing of core" in of_ranks(Ranks(0, 1))


@pytest.mark.parametrize(
    "others_s, cores, threads, taken",
    [(0.6, 2, 2, 0.6), (-0.02, 2, 2, -0.02), (5.0, 8, 2, 0.0), (61.0, 8, 2, 1.0), (0.6, 2, 4, 0.6)],
)
def test_others_take_only_what_the_run_leaves_no_core_for(others_s, cores, threads, taken):
    assert taken_s(others_s, cores, threads, wall_s=10.0) == pytest.approx(taken)


def test_the_bound_is_three_percent_of_the_processor_time_of_its_threads():
    of = {"cores": 4, "threads": 2, "own_s": 1.0, "others_s": 1.0, "taken_s": 1.0, "peaks": {}}
    for share, disturbed in ((0.03, False), (0.0301, True)):
        assert bool(untimed_reasons(Occupancy(**of, share=share), "x, revision 3")) == disturbed
    assert share_of(0.6, 4, 2, 10.0) == pytest.approx(0.03) and share_of(-0.1, 4, 2, 10.0) == 0.0
    assert not busy(0.045, 2, 2, 0.5) and busy(0.1, 2, 2, 0.5)  # what ticks alone may make is not called busy


def test_only_a_record_of_before_it_was_measured_keeps_its_seconds_unmeasured():
    assert untimed_reasons(None, "cpu, x, python 3.11") == []
    assert untimed_reasons(None, "cpu, x, revision 3") == ["its record does not say whether its machine was its own"]
    (reason,) = untimed_reasons(Occupancy(not_measured="there is no /proc/stat here", peaks={}), "cpu, x, revision 3")
    assert "was not measured: there is no /proc/stat here" in reason
