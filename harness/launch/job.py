"""One plan of several that a verb runs: what it is known by, whether it has been run, and the run of its own process."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.launch import child

GIB = 1 << 30


@dataclass(frozen=True)
class Start:
    """A checkpoint of another job's run with the same seed."""

    job: "Job"
    step: int


@dataclass(frozen=True)
class Job:
    """`name`: the lane in a matrix, the case in a study; `words`: what `speedrun` is given besides the seed; `start`: None of a
    run that starts anew."""

    name: str
    words: list[str]
    plan: Any
    plan_hash: str
    hardware_class: str
    start: Start | None = None

    @property
    def lane(self) -> str:
        return self.plan.lane.name


@dataclass
class State:
    """By job and seed: finished runs (RunData) and, where the verb takes them as results, folders of runs stopped by health."""

    done: dict[tuple[str, int], Any] = field(default_factory=dict)
    stopped: dict[tuple[str, int], Path] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def folder(self, name: str, seed: int) -> Path | None:
        run = self.done.get((name, seed))
        return run.folder if run else self.stopped.get((name, seed))


def make_job(name: str, words: list[str], plan: Any, start: Start | None = None, here: Any = None) -> Job:
    """`here`: this machine, as `detect` saw it before. Raises: UserError where it cannot run the plan."""
    from harness.plan.fingerprint import plan_hash
    from harness.train.machine import detect, memory_available_bytes
    from harness.train.memory import memory

    here = here or detect(plan)
    needed, free = memory(plan, here).total, memory_available_bytes(here.device)
    if needed > free:
        raise UserError(f"needs about {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB are free", "")
    return Job(name, words, plan, plan_hash(plan), here.hardware_class, start)


def take_or_run(job: Job, seed: int, known: list[Any], state: State, stopped: list[Path] | None = None) -> None:
    """Takes a finished run from `known` (RunData), or makes it. `stopped`: where to look for runs that health stopped, which
    are then taken too; None: such a run has failed."""
    from harness.plan.words import word
    from harness.report.integrity import check
    from harness.report.run_data import load_run

    for run in known:
        if not is_run_of(run, job, seed):
            continue
        wrong = check(run)
        if not wrong:
            print(f"have {job.name} seed {seed}: {run.folder}", flush=True)
            state.done[job.name, seed] = run
            return
        complaint = f"{run.folder} is not whole: {wrong[0]}"
        print(f"warning: {complaint}; running {job.name} seed {seed} anew", file=sys.stderr)
        state.complaints.append(complaint)
    if stopped is not None and (folder := _find_stopped(job, seed, stopped)):
        print(f"have {job.name} seed {seed}, stopped by health: {folder}", flush=True)
        state.stopped[job.name, seed] = folder
        return
    words = [f"lane={job.lane}", f"seed={seed}", *job.words]
    if job.start:
        source = state.folder(job.start.job.name, seed)
        if source is None:
            state.complaints.append(f"{job.name} seed {seed} starts from {job.start.job.name}, of which there is no run")
            return
        words.append(word("fork", f"{source}@{job.start.step}"))
    print(f"\n== {job.name} seed {seed}", flush=True)
    code, record = child.speedrun(words)
    if record is not None:
        state.done[job.name, seed] = load_run(record.parent)
    elif stopped is not None and (folder := _find_stopped(job, seed, stopped)):
        state.stopped[job.name, seed] = folder
    else:
        state.complaints.append(f"{job.name} seed {seed} ended with status {code}")


def is_run_of(run: Any, job: Job, seed: int) -> bool:
    """Whether `run` (RunData) is of this plan, seed, hardware class and start."""
    r = run.record
    same = (r.lane, r.seed, r.plan_hash, r.speed_class) == (job.lane, seed, job.plan_hash, job.hardware_class)
    return same and _starts_as(job, r.fork)


def _starts_as(job: Job, fork: str | None) -> bool:
    """Whether `fork` of a run (RUN@STEP) is where this job starts; the name of a run's folder has its plan's hash."""
    if job.start is None or fork is None:
        return job.start is None and fork is None
    folder, _, step = fork.rpartition("@")
    return step == str(job.start.step) and job.start.job.plan_hash[:8] in Path(folder).name


def _find_stopped(job: Job, seed: int, places: list[Path]) -> Path | None:
    """The folder of a run of this job and seed that health stopped."""
    from harness.plan.stored import read_plan
    from harness.record.read import read_identity

    for path in sorted(path for place in places for path in place.rglob("stopped.json")):
        who = read_identity(path.parent)
        same = who and (who.plan_hash, who.hardware_class) == (job.plan_hash, job.hardware_class)
        if same and (plan := read_plan(path.parent / "plan.yaml")).seed == seed and _starts_as(job, plan.fork):
            return path.parent
    return None
