"""Sweeps through Hydra's --multirun: every job a process, one failing job no reason to stop."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import micro
import processes
import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from report_factory import write_run

from harness.__main__ import main
from harness.launch import child, multirun, plugins
from harness.record.documents import SweepJob

# A sweep whose jobs, processes too, draw no figures.
SWEEP = f"""
from harness.launch import child
started = child.started
child.started = lambda words, **how: started(words, **how | {{"program": {processes.UNDRAWN!r}}})
{processes.MAIN}
"""


@pytest.mark.process
def test_a_sweep_runs_every_job_past_a_failing_one_and_leaves_only_the_run_folder(tmp_path):
    """Three seeds, the first of them impossible."""
    words = ["seed=-1,1,2", "budget.tokens=2048", f"run.folder={tmp_path / 'runs'}"]
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, "speedrun", "--multirun", *micro.DENSE, *words],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(micro.ROOT)}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-2000:]
    assert done.stdout.count("== ") == 3 and done.stdout.count("record: ") == 2
    records = [micro.record(path.parent) for path in (tmp_path / "runs").glob("*/*/record.json")]
    assert sorted(record.seed for record in records) == [1, 2]
    bpb = [record.metrics.val_bpb for record in records]
    mean, sd, n = re.search(r"val_bpb: mean ([\d.]+), sd ([\d.]+) over n = (\d) runs", done.stdout).groups()
    assert float(mean) == round(statistics.mean(bpb), 4) and float(sd) == round(statistics.stdev(bpb), 4) and n == "2"
    assert done.stdout.count("exit 2") == 1 and "Traceback" not in done.stderr
    # a file of Hydra's in the repository would make every job of the sweep dirty, so unranked
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    (left,) = (tmp_path / "runs").glob("sweep-*")
    stated = [json.loads(path.read_text()) for path in sorted(left.glob("job-*.json"))]
    assert [bool(outcome["record"]) for outcome in stated] == [False, True, True] and f"sweep: {left}" in done.stdout


@pytest.mark.process
def test_a_mistyped_key_in_a_sweep_names_the_nearest_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "speedrun", "--multirun", "lane=tiny-dense", "sed=1,2"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(micro.ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "did you mean seed?" in done.stderr, done.stderr[-500:]


@pytest.mark.parametrize(
    "word, said",
    [
        ("hydra/launcher=nowhere", ["hydra/launcher=nowhere is not installed", "-m pip install hydra-nowhere-launcher"]),
        ("hydra/launcher=nowher", ["unknown hydra/launcher=nowher", "did you mean nowhere?"]),
        ("hydra/sweeper=basik", ["unknown hydra/sweeper=basik", "did you mean basic?"]),
    ],
)
def test_a_plugin_that_is_not_installed_is_named_with_what_installs_it(word, said, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(plugins.PACKAGES["hydra/launcher"], "nowhere", "hydra-nowhere-launcher")
    assert main(["speedrun", "--multirun", "lane=tiny-dense", "seed=1,2", f"run.folder={tmp_path}", word]) == 2
    told = capsys.readouterr().err
    assert all(part in told for part in said) and not list(tmp_path.iterdir())


def test_every_launcher_that_the_slurm_extra_brings_is_known_by_it():
    extra = (micro.ROOT / "pyproject.toml").read_text().split("slurm = [", 1)[1].split("]", 1)[0]
    assert plugins.SUBMITIT.split() == re.findall(r'"([^"]+)"', extra)
    assert {plugins.PACKAGES["hydra/launcher"][name] for name in ("submitit_local", "submitit_slurm")} == {plugins.SUBMITIT}


class Elsewhere(BasicLauncher):
    """Runs its jobs in a process that tells this one nothing."""

    def launch(self, job_overrides, initial_job_idx):
        process = os.fork()
        if not process:
            try:
                super().launch(job_overrides, initial_job_idx)
            finally:
                os._exit(0)
        os.waitpid(process, 0)
        return [JobReturn(_return_value=0.0, status=JobStatus.COMPLETED) for _ in job_overrides]


@pytest.fixture(name="elsewhere")
def elsewhere_fixture(monkeypatch):
    """The words that choose it: Hydra takes launchers of the package hydra_plugins alone."""
    monkeypatch.setattr(Elsewhere, "__module__", "hydra_plugins.elsewhere")
    home, package = ModuleType("hydra_plugins.elsewhere"), ModuleType("hydra_plugins")
    home.Elsewhere, package.elsewhere = Elsewhere, home
    monkeypatch.setitem(sys.modules, "hydra_plugins", package)
    monkeypatch.setitem(sys.modules, "hydra_plugins.elsewhere", home)
    Plugins.instance().register(Elsewhere)
    ConfigStore.instance().store("elsewhere", {"_target_": "hydra_plugins.elsewhere.Elsewhere"}, group="hydra/launcher")
    yield "hydra/launcher=elsewhere"
    ConfigStore.instance().repo["hydra"]["launcher"].pop("elsewhere.yaml")
    Plugins.instance().class_name_to_class.pop("hydra_plugins.elsewhere.Elsewhere")


def test_jobs_in_another_process_are_found_by_what_they_leave_in_the_sweeps_folder(elsewhere, tmp_path, monkeypatch, capsys):
    runs = {seed: write_run(tmp_path / "there" / str(seed), seed=seed) / "record.json" for seed in (1, 2)}
    asked = lambda words: int(dict(word.split("=") for word in words)["seed"])  # noqa: E731

    def aloud(words, tells):
        seed = asked(words[1:])
        return child.Ended(0, f"record: {runs[seed]}\n") if seed in runs else child.Ended(3, "")

    monkeypatch.setattr(child, "aloud", aloud)
    monkeypatch.setattr(sys, "argv", sys.argv)
    words = ["lane=tiny-dense", "seed=1,2,3", f"run.folder={tmp_path / 'runs'}", elsewhere]
    assert main(["speedrun", "--multirun", *words]) == 1
    said = capsys.readouterr().out
    assert "over n = 2 runs" in said and "exit 3" in said
    (sweep,) = (tmp_path / "runs").glob("sweep-*")
    left = [json.loads(path.read_text()) for path in sorted(sweep.glob("job-*.json"))]
    assert [outcome["record"] for outcome in left] == [*map(str, runs.values()), None]


@pytest.mark.parametrize("rank, tasks", [(0, 1), (0, 2), (1, 2)])
def test_the_tasks_of_a_job_are_the_ranks_of_one_run(rank, tasks, monkeypatch):
    """`tests/referee_sweeps` has them really started."""
    told = []

    class Place:
        def __init__(self):
            self.rank, self.world_size = rank, tasks

        def export(self, **how):
            told.append(how)

    monkeypatch.setitem(sys.modules, "submitit", ModuleType("submitit"))
    monkeypatch.setitem(sys.modules, "submitit.helpers", SimpleNamespace(TorchDistributedEnvironment=Place))
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    assert plugins.join_tasks() == 0 and not told  # of any other launcher
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert plugins.join_tasks() == rank
    assert told == [{"set_cuda_visible_devices": False, "overwrite": True}] * (tasks > 1)


class NotCompleted(RuntimeError):
    """submitit's UncompletedJobError."""


@pytest.fixture(name="task")
def task_fixture(monkeypatch, tmp_path):
    """task(ended, rank=0, refuses=False): what a task of a submitit job leaves whose run ends so, as (its file, whether
    submitit was asked to start it again)."""
    path, asked = tmp_path / "job-00000.json", []
    here = SimpleNamespace(
        overrides=SimpleNamespace(task=["lane=tiny-dense"]),
        sweep=SimpleNamespace(dir=str(tmp_path)),
        job=SimpleNamespace(num=0),
    )

    def task(ended, rank=0, refuses=False):
        def handler(number, frame):
            asked.append(number)
            if refuses:
                raise NotCompleted("Job not requeued because: timed-out too many times.")
            if rank == 0:
                raise SystemExit(144)

        asked.clear()
        monkeypatch.setattr(plugins, "join_tasks", lambda: rank)
        monkeypatch.setattr(child, "aloud", lambda words, tells: ended if tells else None)
        before = signal.signal(signal.SIGUSR2, handler)
        try:
            multirun.job(None)
        except SystemExit as left:
            assert left.code == 144
        finally:
            signal.signal(signal.SIGUSR2, before)
        return json.loads(path.read_text()) if path.exists() else None, bool(asked)

    monkeypatch.setattr(multirun.HydraConfig, "get", lambda: here)
    monkeypatch.setattr(plugins, "errors_of_task", lambda: tmp_path / "task.err")
    monkeypatch.setitem(sys.modules, "submitit", ModuleType("submitit"))
    monkeypatch.setitem(sys.modules, "submitit.core", ModuleType("submitit.core"))
    monkeypatch.setitem(sys.modules, "submitit.core.utils", SimpleNamespace(UncompletedJobError=NotCompleted))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    return task


LEFT = child.Ended(140, "stopped with a checkpoint\n", told=True)


def test_a_job_whose_time_is_up_is_started_again_by_its_first_task(task):
    left, again = task(LEFT)
    assert again and left == {"overrides": ["lane=tiny-dense"], "status": None, "record": None, "errors": left["errors"]}
    assert left["errors"].endswith("task.err")


def test_the_other_tasks_of_a_job_leave_that_to_the_first(task):
    left, again = task(LEFT, rank=1)
    assert again and left is None  # submitit's own handler does nothing there


@pytest.mark.parametrize("status", [0, 2, 143, -12])
def test_a_run_that_its_time_limit_ended_in_another_way_is_started_again_too(task, status):
    """The signal may reach one rank before the run begins, or a rank that another one has left."""
    assert task(child.Ended(status, "", told=True))[1]


def test_a_job_that_may_not_be_started_again_is_named_with_the_way_to_go_on(task, capsys):
    left, again = task(LEFT, refuses=True)
    assert again and left["status"] == 140 and left["record"] is None
    assert "timed-out too many times" in capsys.readouterr().err
    multirun._summary([SweepJob(**left)])
    said = capsys.readouterr().out
    assert "left exit 140" in said and "lane=tiny-dense" in said and left["errors"] in said


@pytest.mark.parametrize("ended", [child.Ended(3, "", told=True), child.Ended(2, "")], ids=["health", "mistake"])
def test_a_run_that_would_end_so_again_is_not_started_again(task, ended):
    left, again = task(ended)
    assert not again and left["status"] == ended.status and left["record"] is None


def test_a_run_that_ends_in_spite_of_its_time_limit_is_not_made_anew(task, tmp_path):
    record = write_run(tmp_path / "there", seed=1) / "record.json"
    left, again = task(child.Ended(0, f"record: {record}\n", told=True))
    assert not again and left["record"] == str(record)
    assert task(None) == (left, False)  # nor where Slurm starts its job once more


def test_a_job_that_was_killed_is_named(task, capsys):
    left, _ = task(LEFT)
    multirun._summary([SweepJob(**left)])
    assert "failed   no end" in capsys.readouterr().out


REQUEUE, KILL = "++hydra.launcher.additional_parameters.requeue=true", '++hydra.launcher.srun_args=["--kill-on-bad-exit=1"]'


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], [KILL, REQUEUE]),
        (["+hydra.launcher.srun_args=[--mpi]"], [REQUEUE]),
        (["hydra.launcher.additional_parameters={no-requeue: true}"], [KILL]),
        (["+hydra.launcher.additional_parameters.requeue=true"], [KILL]),
        (["hydra.launcher.additional_parameters={mail-user: me}"], [KILL, REQUEUE]),
    ],
)
def test_on_slurm_a_killed_task_ends_its_job_and_a_job_may_be_started_again_unless_the_words_say_otherwise(words, expected):
    read = OverridesParser.create().parse_override
    assert plugins.slurm_words([read(word) for word in ["hydra/launcher=submitit_slurm", *words]]) == expected
    assert plugins.slurm_words([read(word) for word in ["hydra/launcher=submitit_local", *words]]) == []
