"""Null candidates: a family's start plan against itself, each side under seeds of its own, through the verdict of candidates.

Several processes share the work: each takes the next one that nobody holds, and what is there is kept. A lock is lost with the
process that held it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.launch.job import Job
from harness.launch.search.confirm_plan import job_of, line_of, refuse_dirty
from harness.launch.search.pairs import CANDIDATE, INCUMBENT, Train, run_one, turns
from harness.plan.goal import Goal
from harness.plan.space import Space
from harness.record import confirmation_files as files
from harness.record.confirmations import VERSION, FamilyNulls, Null, Nulls, Seen
from harness.record.provenance import commit
from harness.report.search.verdict import LEAST_PAIRS, judge

SEEDS_FROM = 100_000  # beyond the first fresh seed: no confirmation comes so far


@dataclass(frozen=True)
class NullCourse:
    space: Space
    folder: Path
    family: str
    pairs: int
    train: Train

    def run(self, count: int) -> Iterator[Null]:
        """Those of the first `count` that nobody has, one after the other.

        Raises:
            UserError: fewer than LEAST_PAIRS pairs, an unknown family, nulls of another plan or of other pairs in the folder, a
                plan that does not pass the line, or a run that fails.
        """
        job = self._job()
        line = line_of(job)
        self._refuse_others(job)
        for number in range(count):
            path = files.null_path(self.folder, self.family, number)
            with files.held(path.with_suffix(".lock")) as mine:
                if not mine or path.exists():
                    continue
                null = self._one(job, line, number)
                files.write(path, null)
            self.gather()
            yield null
            if all(run.slice > line.level for run in (*null.runs, *null.against)):
                raise UserError(
                    f"the plan of null candidates is above the line {line.id} ({line.level:.4f}) under every seed: "
                    f"{', '.join(f'{run.slice:.4f}' for run in null.runs)}",
                    f"nothing would be said of what is promoted: raise budget.tokens of {self.family} in "
                    f"studies/spaces/{self.space.name}.yaml, and move {self.folder / 'nulls'} away",
                )

    def gather(self) -> Nulls | None:
        """Writes nulls.json anew, from those of all families; None where there are none."""
        with files.held(self.folder / "nulls" / "gather.lock", wait=True):
            families: dict[str, FamilyNulls] = {}
            for family in self.space.families:
                if nulls := files.read_null_files(self.folder, family):
                    job = job_of(self.space, f"null of {family}", self.space.families[family].words.split())
                    words = [f"lane={job.lane}", *job.words]
                    families[family] = FamilyNulls(
                        words=words, plan_hash=nulls[0].plan_hash, pairs=len(nulls[0].runs), nulls=nulls
                    )
                    line, here, ranks = line_of(job), nulls[0].hardware_class, not job.plan.unranked
            if not families:
                return None
            rules = self.space.confirm
            found = Nulls(
                schema_version=VERSION, space=self.space.name, lane=self.space.lane, hardware_class=here, commit=commit()[0],
                alpha=rules.alpha, ranks=ranks, entropy=rules.entropy, line=line.id,
                level=line.level, families=families,
            )  # fmt: skip
            files.write(self.folder / files.NULLS, found)
            return found

    def _one(self, job: Job, line: Goal, number: int) -> Null:
        first = self.space.confirm.fresh_from + SEEDS_FROM + 2 * self.pairs * number
        seeds = range(first, first + self.pairs), range(first + self.pairs, first + 2 * self.pairs)
        sides: dict[str, list[Seen]] = {CANDIDATE: [], INCUMBENT: []}
        for turn in turns(*seeds):
            found = run_one(job, turn.seed, self.train)
            if isinstance(found, str):
                raise UserError(
                    f"seed {turn.seed} of the null candidates was stopped by health: {found}",
                    f"a plan that does not train says nothing of false alarms: choose another start plan of {self.family}",
                )
            sides[turn.side].append(found)
        rules = self.space.confirm
        verdict = judge(
            sides[CANDIDATE], sides[INCUMBENT], level=line.level, alpha=rules.alpha, entropy=rules.entropy,
            ranks=not job.plan.unranked,
        )  # fmt: skip
        return Null(
            number=number, plan_hash=job.plan_hash, hardware_class=job.hardware_class, runs=sides[CANDIDATE],
            against=sides[INCUMBENT], verdict=verdict,
        )  # fmt: skip

    def _job(self) -> Job:
        if self.pairs < LEAST_PAIRS:
            raise UserError(f"pairs={self.pairs}: nothing can be claimed of so few", f"type pairs={LEAST_PAIRS} or more")
        if self.family not in self.space.families:
            raise UserError(f"space {self.space.name} has no family {self.family!r}", f"FAMILY={'|'.join(self.space.families)}")
        job = job_of(self.space, f"null of {self.family}", self.space.families[self.family].words.split())
        refuse_dirty(job.lane, ranks=not job.plan.unranked)
        return job

    def _refuse_others(self, job: Job) -> None:
        for null in files.read_null_files(self.folder, self.family):
            there = (null.plan_hash, null.hardware_class, len(null.runs))
            if there != (job.plan_hash, job.hardware_class, self.pairs):
                place = self.folder / "nulls" / self.family
                raise UserError(
                    f"{place} has nulls of plan {there[0][:8]} on {there[1]} in {there[2]} pairs, asked is "
                    f" {job.plan_hash[:8]} on {job.hardware_class} in {self.pairs}",
                    "rates are of one plan, one class and one number of pairs: move that folder away",
                )
