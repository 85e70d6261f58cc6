"""One run of a trial: taken where it was made before, waited for where another process makes it, else made."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.launch import child
from harness.launch.job import Job, is_run_of
from harness.record.folder import is_finished, is_running
from harness.record.read import read_identity
from harness.report.integrity import check
from harness.report.run_data import load_run

PUBLISHED = Path("results")
LOOK_S = 1.0  # between two looks at a run that another process makes


@dataclass(frozen=True)
class Outcome:
    """`folder`: of a finished run, or of one that health stopped; None of one that failed, and `why`. `made`: by this call."""

    folder: Path | None
    why: str = ""
    made: bool = True


Trainer = Callable[[Job, int], Outcome]


def take_or_make(job: Job, seed: int) -> Outcome:
    """A run of this plan, seed and machine class; made by a process of its own, which resumes what an interrupted one left.

    Raises:
        KeyboardInterrupt: a signal came, and was passed on to the run, which keeps its checkpoint.
    """
    for folder in _places(job, seed):
        while is_running(folder) and not is_finished(folder):  # of a search that was killed, and whose child was not
            time.sleep(LOOK_S)
    found, broken = _found(job, seed)
    if found:
        return Outcome(found, made=False)
    status, record = child.speedrun([f"lane={job.lane}", f"seed={seed}", *job.words])
    if record is not None:
        return Outcome(record.parent)
    found, broken = _found(job, seed)
    return Outcome(found) if found else Outcome(None, "; ".join([f"speedrun ended with status {status}", *broken]))


def _places(job: Job, seed: int) -> Sequence[Path]:
    """Folders whose names a run of this plan and seed would have."""
    tops = (Path(job.plan.run.folder), PUBLISHED)
    return [path for top in tops for path in sorted((top / job.lane).glob(f"{seed}-{job.plan_hash[:8]}*")) if path.is_dir()]


def _found(job: Job, seed: int) -> tuple[Path | None, list[str]]:
    """The folder of a run that has ended, and what is wrong with those that do not count."""
    broken = []
    for folder in filter(is_finished, _places(job, seed)):
        if (folder / "stopped.json").exists():
            who = read_identity(folder)
            if who and (who.plan_hash, who.speed_class, who.fork) == (job.plan_hash, job.hardware_class, None):
                return folder, broken
            continue
        try:
            run = load_run(folder)
        except UserError as error:
            broken.append(error.problem)
            continue
        if not is_run_of(run, job, seed):
            continue
        if not (wrong := check(run)):
            return folder, broken
        broken.append(f"{folder} is not whole: {wrong[0]}")
    return None, broken
