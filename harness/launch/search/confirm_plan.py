"""What a confirmation will run, fixed and written down before it does: candidate, budget, incumbent, seeds, power."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import UserError
from harness.files import replace_atomically
from harness.launch.job import Job, make_job
from harness.launch.search.candidates import Candidate, choose, typed
from harness.launch.search.pairs import folders_of
from harness.plan.compose import compose
from harness.plan.fingerprint import base_hash
from harness.plan.goal import Goal, goal
from harness.plan.space import Space
from harness.reading import file_hash
from harness.record import confirmation_files as files
from harness.record.confirmations import JUDGED, LINE, RUNNING, VERSION, Champion, Confirmation, Fit, Known, Power, Side
from harness.record.ledger import Ledger, as_written
from harness.record.provenance import commit, now
from harness.report.search.fit import fitted
from harness.report.search.known import known, power_of
from harness.report.search.verdict import LEAST_PAIRS
from harness.report.statistics import Sample


@dataclass(frozen=True)
class Asked:
    """The words of one call, each None where it was not said."""

    family: str | None = None
    trial: str | None = None
    words: str | None = None
    pairs: int | None = None
    fit: bool = True

    @property
    def said(self) -> list[str]:
        """As it is kept, so that the same call is known again."""
        said = [f"{key}={value}" for key, value in vars(self).items() if value is not None and key != "fit"]
        return said + ([] if self.fit else ["fit=no"])


def job_of(space: Space, name: str, words: Sequence[str], tokens: int | None = None) -> Job:
    """A plan by its words beyond the lane and what all plans of the space share. `tokens`: another budget. Raises: UserError
    where there is no such plan, or no room for it here."""
    said = [word for word in words if tokens is None or not word.startswith("budget.tokens=")]
    return job_again(name, space.confirmed(said if tokens is None else [*said, f"budget.tokens={tokens}"]))


def job_again(name: str, words: Sequence[str]) -> Job:
    """A plan by all its words, the lane first. Raises: UserError."""
    return make_job(name, list(words[1:]), compose(list(words)).plan)


def base_hash_of(space: Space, words: Sequence[str]) -> str:
    """The hash, at any budget, of a plan by such words. Raises: UserError."""
    return base_hash(asdict(compose(space.confirmed(words)).plan))


def side_of(job: Job) -> Side:
    return Side(
        name=job.name, words=[f"lane={job.lane}", *job.words], plan_hash=job.plan_hash, base_hash=base_hash(asdict(job.plan)),
        tokens=job.plan.budget.tokens,
    )  # fmt: skip


def line_of(job: Job) -> Goal:
    """Raises: UserError where the lane has no line to pass."""
    if (found := goal(job.plan.track)) is None:
        raise UserError(
            f"lane {job.lane} is a fixed budget: there is no line to pass", "search a lane whose track has a target"
        )
    return found


def refuse_class(here: str, wanted: str, space: str) -> None:
    """Raises: UserError where seconds of this machine are not those of the search."""
    if here != wanted:
        raise UserError(
            f"search {space} was run on {wanted}, this plan would run on {here}: seconds of two classes are never compared",
            f"confirm it on that class, or move runs/search-{space} away and search here: make search NAME={space} HOURS=1",
        )


def refuse_dirty(lane: str, ranks: bool) -> str:
    """The commit. Raises: UserError where runs would be unranked for changes that no commit has."""
    at, dirty = commit()
    if dirty and ranks:
        raise UserError(f"the source tree has uncommitted changes, and {lane} ranks runs", "git commit, or git stash")
    return at


@dataclass(frozen=True)
class Planner:
    """`earlier`: confirmations of this search that there are, in their order."""

    space: Space
    folder: Path
    ledger: Ledger
    earlier: list[Confirmation]

    def new(self, asked: Asked) -> Confirmation:
        """Written down. Raises: UserError where it cannot be run, or would say nothing."""
        rules = self.space.confirm
        pairs = rules.pairs if asked.pairs is None else asked.pairs
        if pairs < LEAST_PAIRS:
            raise UserError(f"pairs={pairs}: nothing can be claimed of so few", f"type pairs={LEAST_PAIRS} or more")
        holder = files.champion_of(self.folder.parent, self.space.lane, self.ledger.hardware_class)
        candidate = self._candidate(asked, holder)
        job = job_of(self.space, candidate.name, candidate.words)
        refuse_class(job.hardware_class, self.ledger.hardware_class, self.space.name)
        before = [one for one in self.earlier if one.candidate.base_hash == base_hash(asdict(job.plan))]
        sds = self._known()
        power, line = power_of(sds, pairs, rules.alpha), line_of(job)
        fit = self._fit(candidate, job, before, power, line) if asked.fit else None
        job = job_of(self.space, candidate.name, candidate.words, fit.tokens) if fit else job
        incumbent, slope = self._incumbent(holder, candidate.family), self.ledger.slopes.get(candidate.family)
        if incumbent.plan_hash == job.plan_hash:
            raise UserError(
                f"{candidate.name} is the incumbent, {incumbent.name}: both are plan {job.plan_hash[:8]}",
                "trial=... names another; nulls=50 shows what a plan against itself comes to",
            )
        at = refuse_dirty(job.lane, ranks=not job.plan.unranked)
        frozen, seeds = self._freeze(len(self.earlier) + 1), self._fresh([job, incumbent], pairs)
        it = Confirmation(
            schema_version=VERSION, number=len(self.earlier) + 1, space=self.space.name, lane=self.space.lane,
            family=candidate.family, trial=candidate.trial, asked=asked.said, attempt=len(before) + 1,
            trials=self._trials(job, candidate), ledger_sha256=frozen, hardware_class=job.hardware_class, commit=at,
            began=now(), state=RUNNING, seeds=seeds, ranks=not job.plan.unranked, entropy=rules.entropy,
            line=line.id, level=line.level, candidate=side_of(job), incumbent=side_of(incumbent), fit=fit, known=sds,
            power=power, runs=[], against=[], replaced=[], stopped=[], **({"slope": slope} if slope and not holder else {}),
        )  # fmt: skip
        files.write_confirmation(self.folder, it)
        return it

    def _candidate(self, asked: Asked, holder: Champion | None) -> Candidate:
        if asked.words is None:
            return choose(self.ledger, asked.family, asked.trial, holder)
        return typed(self.space, asked.family, asked.words.split())

    def _trials(self, job: Job, candidate: Candidate) -> int:
        """The ledger's, and plans that were typed by hand."""
        hands = {one.candidate.base_hash for one in self.earlier if one.trial is None}
        return len(self.ledger.trials) + len(hands | ({base_hash(asdict(job.plan))} if candidate.trial is None else set()))

    def _freeze(self, number: int) -> str:
        """Keeps the ledger that the candidate was chosen from: a search that is going on writes its own anew. Returns its
        sha256."""
        path = files.frozen_ledger(self.folder, number)
        replace_atomically(path, [as_written(self.ledger)])
        return file_hash(path)

    def _fit(self, candidate: Candidate, job: Job, before: list[Confirmation], power: Power, line: Goal) -> Fit | None:
        """From the newest confirmation of the same plan, else from the trial; None of a plan typed by hand that has neither."""
        slope = self.ledger.slopes.get(candidate.family)
        seen = [one for one in before if one.runs and one.state == JUDGED]
        if slope is None or (not seen and candidate.figure is None):
            return None
        given = {"slope": slope, "margin": power.slice, "level": line.level, "step": max(job.plan.batch.sizes)}
        if not seen:
            return fitted(candidate.name, job.plan.budget.tokens, candidate.figure, 1, **given)
        last = seen[-1]
        mean, missed = Sample.of([run.slice for run in last.runs]).mean, LINE in last.verdict.failed
        return fitted(f"confirmation {last.number}", last.candidate.tokens, mean, len(last.runs), **given, missed=missed)

    def _incumbent(self, holder: Champion | None, family: str) -> Job:
        """What holds the lane on this class, else where the family starts."""
        if holder is None:
            return job_of(self.space, f"the start plan of {family}", self.space.families[family].words.split())
        job = job_again(f"champion of search {holder.space}, confirmation {holder.number}", holder.champion.words)
        if job.plan_hash != holder.champion.plan_hash:
            raise UserError(
                f"the {job.name} was plan {holder.champion.plan_hash[:8]}, its words are {job.plan_hash[:8]} now",
                "go back to the commit of its runs: what holds the lane is that plan",
            )
        return job

    def _known(self) -> Known:
        nulls = files.read_nulls(self.folder)
        pairs = [(one.runs, one.against) for one in self.earlier if one.state == JUDGED]
        pairs += [(null.runs, null.against) for of in (nulls.families.values() if nulls else ()) for null in of.nulls]
        return known(self.space.noise, pairs)

    def _fresh(self, sides: Sequence[Job], pairs: int) -> list[int]:
        """Seeds that no trial of this search and no confirmation of the lane has had, nor a run of either side elsewhere: one
        that was there would be taken, and its seconds are of another day than those that it is held against."""
        used = {self.space.seed, *files.seeds_spent(self.folder.parent, self.space.lane)}
        found, seed = [], self.space.confirm.fresh_from
        while len(found) < pairs:
            if seed not in used and not any(folders_of(job, seed) for job in sides):
                found.append(seed)
            seed += 1
        return found
