"""A search on its way: takes a trial, runs its rungs, ends it, writes the ledger; and again, as long as there is time."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UserError
from harness.launch.job import make_job
from harness.launch.search.halving import goes_on
from harness.launch.search.ledger_of import ledger_of, slopes_of, trial_of, without_slope
from harness.launch.search.runs import Trainer, take_or_make
from harness.launch.search.seconds import Seconds, shape_of
from harness.launch.search.storage import Storage, Taken
from harness.launch.series.course import SPARE
from harness.launch.series.grid import HOUR_S
from harness.plan.fingerprint import plan_hash
from harness.plan.goal import Goal, goal
from harness.plan.space import Space
from harness.plan.space_check import Draw, RungPlan, drawn, starts_of
from harness.reading import file_hash
from harness.record.ledger import Ledger, LedgerRung, LedgerTrial, equivalent_s, slope_of, write_ledger
from harness.record.read import read_record, read_stop
from harness.shown import one_line
from harness.train.machine import Machine, detect

FAILED_IN_ROW = 3  # runs without a record: then something is wrong that no draw is to blame for
LOOK_S = 1.0  # between two looks at the first trial of a family, which another process runs


@dataclass
class Course:
    space: Space
    storage: Storage
    goal: Goal
    here: Machine
    seconds: Seconds
    trainer: Trainer = take_or_make
    failed: int = 0  # in a row
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, space: Space, trainer: Trainer = take_or_make) -> "Course":
        """Raises: UserError where the space is none, or the folder of the search has trials of another one."""
        starts = starts_of(space)
        plan = drawn(space, next(iter(space.families))).rungs[-1].plan
        here = detect(plan)
        folder = Path(plan.run.folder) / f"search-{space.name}"
        storage = Storage(folder, space, here.hardware_class, starts)
        course = cls(space, storage, goal(plan.track), here, Seconds(here, space.scored), trainer)
        for trial in course.trials():
            course.seconds.learn(trial.family, trial.rungs)
        return course

    @property
    def folder(self) -> Path:
        return self.storage.folder

    def trials(self) -> list[LedgerTrial]:
        return [trial_of(arm, trial) for arm in self.space.arms for trial in self.storage.trials(arm)]

    def closed(self) -> dict[str, str]:
        """Families whose first trial did not finish, and why."""
        return without_slope(self.trials())

    def write(self) -> Ledger:
        with self.storage.turn():
            ledger = ledger_of(self.storage, self.goal, self.here.hardware_class)
            write_ledger(self.folder, ledger)
        return ledger

    def run(self, hours: float) -> str:
        """Why it ended before all trials were done; empty where they are.

        Raises:
            UserError: no family has a finished first trial, or runs fail one after the other.
            KeyboardInterrupt: the trial at hand goes on when the search is called again.
        """
        until = self.began + hours * HOUR_S
        try:
            while True:
                closed = self.closed()
                self._refuse_none(closed)
                taken = self.storage.take(slopes_of(self.trials()), closed)
                if taken is None:
                    return ""
                if isinstance(taken, str):  # another process runs that family's first trial
                    if time.monotonic() > until:
                        return "time is up"
                    time.sleep(LOOK_S)
                    continue
                with taken.lock:
                    if not self._finish(taken, until):
                        return "time is up"
                self.write()
        finally:
            self.write()

    def _refuse_none(self, closed: dict[str, str]) -> None:
        if closed.keys() >= self.space.families.keys():
            told = "".join(f"\n    {family}: {why}" for family, why in closed.items())
            raise UserError(
                f"search {self.space.name} has no finished first trial:{told}",
                "change where its families start, in a space of a new name; or move "
                f"{self.folder} away and search again, where a run failed by accident",
            )
        if self.failed >= FAILED_IN_ROW:
            raise UserError(
                f"{self.failed} runs in a row left no record: {self.folder / 'ledger.json'} says why of each",
                "mend that; the same command goes on",
            )

    def _finish(self, taken: Taken, until: float) -> bool:
        """The rest of a trial's rungs; whether there was time for them."""
        family, is_start = taken.arm[0], taken.number == 0
        trial = trial_of(taken.arm, self.storage.of(taken))
        try:
            draw = drawn(self.space, family, None if is_start else taken.params)
        except UserError as error:
            self._end(taken, "failed", why=f"its plan does not compose: {one_line(error)}")
            return True
        self.storage.put(taken, "words", draw.words)
        rungs = list(trial.rungs)
        slope = None if is_start else slopes_of(self.trials())[family]
        for place, planned in enumerate(draw.rungs):
            if place == len(rungs):
                if self.seconds.of(family, planned.plan) > (until - time.monotonic()) / SPARE:
                    return False
                self._say(taken, planned, draw)
                rungs.append(self._weighed(self._make(taken, planned), slope))
                self.failed = self.failed + 1 if rungs[-1].status == "failed" else 0
                self.storage.put(taken, "rungs", [rung.content() for rung in rungs])
                self.seconds.learn(family, rungs[-1:])
            if not rungs[place].finished:
                self._end(taken, rungs[place].status, why=rungs[place].why)
                return True
            went_on = place + 1 < len(rungs)  # before this trial was interrupted
            if not is_start and not went_on and not self._goes_on(taken, place, rungs[place]):
                self._end(taken, "pruned")
                return True
        if is_start:
            return self._measure(taken, rungs)
        self._end(taken, "complete", rungs[-1])
        return True

    def _measure(self, taken: Taken, rungs: list[LedgerRung]) -> bool:
        """Takes the slope of its family from a first trial, and with it that trial's own figures; it has ended then."""
        slope = slope_of(rungs)
        if slope is None:
            told = ", ".join(f"{rung.figure:.4f} after {rung.train_s:.1f} s" for rung in rungs)
            self._end(taken, "failed", why=f"its bits do not fall from rung to rung: {told}")
            return True
        rungs = [self._weighed(rung, slope) for rung in rungs]
        self.storage.put(taken, "rungs", [rung.content() for rung in rungs])
        for place, rung in enumerate(rungs):
            self.storage.report(taken, place, math.log(rung.equivalent_s))
        self._end(taken, "complete", rungs[-1])
        return True

    def _weighed(self, rung: LedgerRung, slope: float | None) -> LedgerRung:
        if slope is None or not rung.finished:
            return rung
        found = equivalent_s(rung.train_s, rung.figure, self.goal.level, slope)
        return LedgerRung(**rung.content() | {"equivalent_s": found})

    def _goes_on(self, taken: Taken, place: int, rung: LedgerRung) -> bool:
        figure = math.log(rung.equivalent_s)
        self.storage.report(taken, place, figure)
        if place + 1 == len(self.space.rungs):
            return True
        others = [t for t in self.storage.trials(taken.arm) if t.number != taken.number and place in t.intermediate_values]
        return goes_on(figure, [t.intermediate_values[place] for t in others], self.space.reduction)

    def _make(self, taken: Taken, planned: RungPlan) -> LedgerRung:
        began = time.monotonic()
        told = {"share": planned.share, "words": planned.words}
        try:
            job = make_job("/".join(taken.arm), planned.words[1:], planned.plan, here=self.here)
        except UserError as error:
            return LedgerRung(**told, plan_hash=plan_hash(planned.plan), folder=None, status="failed", why=one_line(error))
        with self.storage.making(job.plan_hash):
            outcome = self.trainer(job, self.space.seed)
        told |= {"plan_hash": job.plan_hash, "folder": outcome.folder and str(outcome.folder)}
        if outcome.folder is None:
            return LedgerRung(**told, status="failed", why=outcome.why)
        if stop := read_stop(outcome.folder):
            return LedgerRung(**told, status="stopped", why=f"stopped by health at step {stop.step:,}: {stop.what}")
        return self._read(told, planned, outcome.folder, outcome.made, time.monotonic() - began)

    def _read(self, told: dict, planned: RungPlan, folder: Path, made: bool, wall_s: float) -> LedgerRung:
        record = read_record(folder)
        clock = record.clock
        more = {"disturbed": record.disturbed} if record.disturbed else {}
        if made:
            more |= {"beside_s": max(0.0, wall_s - clock.train_s - clock.compile_s), "compile_s": clock.compile_s}
            more |= {"shape": shape_of(planned.plan)}
        return LedgerRung(
            **told | {"plan_hash": record.plan_hash}, status="ran" if made else "taken",
            record_sha256=file_hash(folder / "record.json"), chain=record.determinism.chain,
            slice_bpb=record.metrics.slice_bpb, figure=getattr(record.metrics, self.goal.metric), train_s=clock.train_s,
            counted_s=self.seconds.counted(planned.plan), **more,
        )  # fmt: skip

    def _say(self, taken: Taken, planned: RungPlan, draw: Draw) -> None:
        train_s = self.seconds.of(taken.arm[0], planned.plan)
        print(f"\n== {'/'.join(taken.arm)} {taken.number}, {planned.share:g} of its budget, about {train_s:.0f} s: "
              f"{' '.join(draw.words)}", flush=True)  # fmt: skip

    def _end(self, taken: Taken, state: str, rung: LedgerRung | None = None, why: str = "") -> None:
        if why:
            self.storage.put(taken, "why", why)
        self.storage.tell(taken, state, math.log(rung.equivalent_s) if rung else None)
        trial = trial_of(taken.arm, self.storage.of(taken))
        figure = f", {trial.equivalent_s:.2f} s to the line" if trial.equivalent_s else ""
        print(f"{trial.arm} {trial.number}: {state}{figure}{f', {why}' if why else ''}", flush=True)
