"""Where a search keeps its trials: a journal of Optuna's in runs/search-NAME, one study an arm, shared by several processes.

Every operation is a line that is on the disk before it counts. Locks are `flock`s, which a process loses with its life: a trial
that is running and whose lock is free was interrupted, and whoever comes next takes it up. A line that a kill cut in half is
cut off before the next one is written.
"""

import fcntl
import json
import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from harness.errors import UserError
from harness.launch.search.arms import distributions, sampler
from harness.plan.fingerprint import flattened
from harness.plan.space import Space

JOURNAL = "trials.journal"
Arm = tuple[str, str]


@dataclass(frozen=True)
class Taken:
    """A trial that this process works at until `lock` is closed. `params` by dial."""

    arm: Arm
    number: int
    params: dict[str, Any]
    lock: TextIO


class Storage:
    """`starts`: by family, the values of its dials where it starts, which are the first trial of its arms."""

    def __init__(self, folder: Path, space: Space, hardware_class: str, starts: dict[str, dict[str, Any]]):
        """Raises: UserError where the folder holds the trials of another space, or of another machine class."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.space, self.starts = folder, space, starts
        path = folder / JOURNAL
        with self.turn():
            self.storage = JournalStorage(JournalFileBackend(str(path), _Lock(path)))
            names = optuna.get_all_study_names(self.storage)
            known = [optuna.load_study(study_name=name, storage=self.storage) for name in names]
            if any(study.get_trials(deepcopy=False) for study in known):
                for study in known:
                    _refuse_other(folder, space, hardware_class, study.user_attrs)
            else:  # a plan that was only looked at binds nobody
                for study in known:
                    self._mark(study, hardware_class)
            self.studies = {arm: self._study(arm, hardware_class) for arm in space.arms}

    def _study(self, arm: Arm, hardware_class: str) -> optuna.Study:
        study = optuna.create_study(storage=self.storage, study_name="-".join(arm), load_if_exists=True)
        if "space" not in study.user_attrs:
            self._mark(study, hardware_class)
        return study

    def _mark(self, study: optuna.Study, hardware_class: str) -> None:
        study.set_user_attr("hardware_class", hardware_class)
        study.set_user_attr("space", self.space.identity)

    def trials(self, arm: Arm) -> list[FrozenTrial]:
        """By number, those that were drawn."""
        found = self.studies[arm].get_trials(deepcopy=False)
        return [trial for trial in found if trial.state != TrialState.WAITING]

    def of(self, taken: Taken) -> FrozenTrial:
        return self.trials(taken.arm)[taken.number]

    def take(self, ready: Collection[str], closed: Collection[str] = ()) -> Taken | str | None:
        """A trial that was interrupted; else a new one of the arm that has fewest. None when all arms are full; the family
        where the arm whose turn it is must wait for its first trial. `ready`: families whose slope is known; `closed`: those
        that will have none."""
        with self.turn():
            arms = [arm for arm in self.space.arms if arm[0] not in closed]
            for arm, trial in [(each, trial) for each in arms for trial in self.trials(each)]:
                if trial.state == TrialState.RUNNING and (lock := self._lock(arm, trial.number)):
                    if self.trials(arm)[trial.number].state == TrialState.RUNNING:
                        return self._drawn(arm, trial, lock)
                    lock.close()  # it ended meanwhile
            counts = {arm: len(self.trials(arm)) for arm in arms}
            arm = min(counts, key=counts.get, default=None)
            if arm is None or (number := counts[arm]) >= self.space.trials:
                return None
            if number and arm[0] not in ready:
                return arm[0]
            lock = self._lock(arm, number)
            assert lock, f"trial {number} of {'-'.join(arm)} is being made, and is not there"
            return self._ask(arm, number, lock)

    def put(self, taken: Taken, key: str, value: Any) -> None:
        """Notes something about a trial that has not ended. `value`: JSON data."""
        self.storage.set_trial_user_attr(self.of(taken)._trial_id, key, value)

    def report(self, taken: Taken, rung: int, figure: float) -> None:
        """ln of equivalent seconds at a rung, from 0."""
        self.storage.set_trial_intermediate_value(self.of(taken)._trial_id, rung, figure)

    def tell(self, taken: Taken, state: str, figure: float | None) -> None:
        """Ends a trial. To a sampler one that health stopped is as one that was pruned at the last rung it finished, where it
        finished none worse than all others; one that failed is none."""
        told = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "stopped": TrialState.PRUNED}
        self.put(taken, "state", state)
        value = figure if state == "complete" else None
        self.studies[taken.arm].tell(taken.number, value, told.get(state, TrialState.FAIL))
        with suppress(FileNotFoundError):
            self._lock_path(taken.arm, taken.number).unlink()

    @contextmanager
    def making(self, plan_hash: str) -> Iterator[None]:
        """One process at a time makes a run of a plan: another one waits, and finds it there."""
        path = self.folder / "locks" / f"{plan_hash[:16]}.lock"
        with _opened(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
            with suppress(FileNotFoundError):
                path.unlink()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with _opened(self.folder / "locks" / "turn.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _lock_path(self, arm: Arm, number: int) -> Path:
        return self.folder / "locks" / f"{'-'.join(arm)}-{number}.lock"

    def _lock(self, arm: Arm, number: int) -> TextIO | None:
        """None while another process works at this trial."""
        lock = _opened(self._lock_path(arm, number))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        return lock

    def _ask(self, arm: Arm, number: int, lock: TextIO) -> Taken:
        study = self.studies[arm]
        study.sampler = sampler(self.space, arm, number)
        if number == 0 and not study.get_trials(deepcopy=False):
            study.enqueue_trial(self.starts[arm[0]])
        trial = study.ask(distributions(self.space, arm[0]))
        assert trial.number == number, (trial.number, number)
        return Taken(arm, number, self._ordered(arm, trial.params), lock)

    def _drawn(self, arm: Arm, trial: FrozenTrial, lock: TextIO) -> Taken:
        """With the dials that were left to draw, where a kill came between two of them."""
        study = self.studies[arm]
        study.sampler = sampler(self.space, arm, trial.number)
        again = optuna.Trial(study, trial._trial_id)
        for name, distribution in distributions(self.space, arm[0]).items():
            again._suggest(name, distribution)
        return Taken(arm, trial.number, self._ordered(arm, again.params), lock)

    def _ordered(self, arm: Arm, params: dict[str, Any]) -> dict[str, Any]:
        return {name: params[name] for name in self.space.dials_of(arm[0])}


class _Lock(JournalFileOpenLock):
    """The journal's: it is held while a line is written."""

    def __init__(self, journal: Path):
        super().__init__(str(journal))
        self.journal, self.path, self.held = journal, journal.parent / "locks" / "journal.lock", None

    def acquire(self) -> bool:
        self.held = _opened(self.path)
        fcntl.flock(self.held, fcntl.LOCK_EX)
        _cut_half_line(self.journal)
        return True

    def release(self) -> None:
        self.held.close()


def _opened(path: Path) -> TextIO:
    """Raises: UserError where its folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a")
    except OSError as error:
        raise UserError(f"cannot write to {path.parent}: {error}", "free some space, or choose run.folder=PATH") from error


def _cut_half_line(path: Path) -> None:
    with open(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def _refuse_other(folder: Path, space: Space, hardware_class: str, stored: dict[str, Any]) -> None:
    theirs, mine = stored.get("space"), json.loads(json.dumps(space.identity))
    if theirs is not None and theirs != mine:
        was, now, none = flattened(theirs), flattened(mine), "(absent)"
        keys = [key for key in {**was, **now} if was.get(key, none) != now.get(key, none)]
        told = [f"{key}: {was.get(key, none)} there, {now.get(key, none)} in this space" for key in keys]
        raise UserError(
            f"{folder} has the trials of another space:\n    " + "\n    ".join(told),
            f"copy studies/spaces/{space.name}.yaml to a new name and search that, or restore it to what it was;\n  "
            f"to begin this one anew, move {folder} away",
        )
    if stored.get("hardware_class", hardware_class) != hardware_class:
        raise UserError(
            f"{folder} has seconds of {stored['hardware_class']}, this is {hardware_class}",
            f"search there, or with as many threads (OMP_NUM_THREADS), or move {folder} away to begin anew here",
        )


warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
