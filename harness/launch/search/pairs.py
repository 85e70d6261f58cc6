"""Runs of two plans in turns, each a process of its own, so that a machine that slows down slows both."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.launch import child
from harness.launch.job import Job, is_run_of
from harness.record.confirmations import Seen
from harness.record.folder import is_finished, is_running
from harness.record.read import read_stop
from harness.report.integrity import check
from harness.report.run_data import RunData, load_run
from harness.report.search.seen import seen

# Trains the words of a `speedrun`: (exit status, path of its record, None where there is none).
Train = Callable[[Sequence[str]], tuple[int, Path | None]]
CANDIDATE, INCUMBENT = "candidate", "incumbent"


@dataclass(frozen=True)
class Turn:
    """A run that is due."""

    side: str
    seed: int


def turns(seeds: Sequence[int], others: Sequence[int]) -> list[Turn]:
    """Pair by pair, the candidate first in every other one. `seeds` of the candidate, `others` of the incumbent."""
    found = []
    for place, (ours, theirs) in enumerate(zip(seeds, others, strict=True)):
        pair = [Turn(CANDIDATE, ours), Turn(INCUMBENT, theirs)]
        found += pair if place % 2 == 0 else reversed(pair)
    return found


def aloud(words: Sequence[str]) -> tuple[int, Path | None]:
    """What it says is passed on."""
    return child.speedrun(words)


def quietly(log: Path) -> Train:
    """What it says goes to a file."""

    def train(words: Sequence[str]) -> tuple[int, Path | None]:
        log.parent.mkdir(parents=True, exist_ok=True)
        ended = child.run(["speedrun", *words], log=log)
        return ended.status, ended.record

    return train


def folders_of(job: Job, seed: int) -> list[Path]:
    """Where runs of this plan and seed lie, finished or not."""
    places = [Path(job.plan.run.folder), Path("results")]
    return [path for place in places for path in sorted((place / job.lane).glob(f"{seed}-{job.plan_hash[:8]}*"))]


def run_one(job: Job, seed: int, train: Train) -> Seen | str:
    """Takes the run of this plan and seed where it is there and whole, else trains it; of one that health stops what it saw.

    A run that was left half done starts anew: a resumed one would be no measurement of seconds.

    Raises:
        UserError: it ended in another way, or another process is at it.
    """
    found = _there(job, seed)
    return run_anew(job, seed, train) if found is None else found


def run_anew(job: Job, seed: int, train: Train) -> Seen | str:
    """The same, whatever is there."""
    status, record = train([f"lane={job.lane}", f"seed={seed}", *job.words])
    if record is not None:
        return seen(load_run(record.parent))
    if isinstance(found := _there(job, seed), str):
        return found
    raise UserError(f"{job.name} seed {seed} ended with status {status}", "the same command goes on with the same seeds")


def _there(job: Job, seed: int) -> Seen | str | None:
    """A finished run, of several one that nobody disturbed, or the words of one that health stopped; what was left half done is
    made to start anew."""
    whole: list[Seen] = []
    for folder in folders_of(job, seed):
        if is_running(folder):
            raise UserError(f"{folder} is being written by a run that is still going", "wait for it, or stop it")
        if not is_finished(folder):
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        elif (stop := read_stop(folder)) is not None:
            return stop.what
        elif _is_whole(run := load_run(folder), job, seed):
            whole.append(seen(run))
    return min(whole, key=lambda run: run.disturbed is not None, default=None)


def _is_whole(run: RunData, job: Job, seed: int) -> bool:
    return is_run_of(run, job, seed) and not check(run)
