"""A confirmation on its way: the runs that it lacks, the verdict on them, and the champion that may come of it."""

from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import UserError
from harness.launch.job import Job
from harness.launch.search.confirm_plan import Asked, Planner, job_again, refuse_class, refuse_dirty
from harness.launch.search.pairs import CANDIDATE, INCUMBENT, Train, run_anew, run_one, turns
from harness.plan.compose import compose
from harness.plan.fingerprint import differences
from harness.plan.space import Space
from harness.record import confirmation_files as files
from harness.record.confirmations import ABANDONED, JUDGED, PROMOTED, RUNNING, VERSION, Champion, Confirmation, Seen, Stopped
from harness.record.ledger import LEDGER, Ledger, has_ledger, read_ledger
from harness.record.provenance import now
from harness.report.search.verdict import held_against, judge
from harness.report.statistics import Sample

AGAIN = 2  # times at most that a disturbed pair is measured again


def storage(space: Space) -> Path:
    """The folder of a search, beside the runs of its lane. Raises: UserError where its first family has no plan."""
    family = next(iter(space.families.values()))
    return Path(compose(space.confirmed(family.words.split())).plan.run.folder) / f"search-{space.name}"


def read_search(space: Space, folder: Path) -> Ledger:
    """Raises: UserError where there is no ledger, or one of another space."""
    if not has_ledger(folder):
        raise UserError(f"no search of {space.name}: {folder} has no {LEDGER}", f"make search NAME={space.name} HOURS=1")
    ledger = read_ledger(folder)
    if ledger.space_sha256 != space.sha256:
        file = f"studies/spaces/{space.name}.yaml"
        raise UserError(
            f"{folder / LEDGER} is of another space than {file} says now",
            f"restore it (git checkout -- {file}), or move {folder} away and search anew",
        )
    return ledger


@dataclass
class Course:
    """`earlier`: confirmations that there are, in their order."""

    space: Space
    folder: Path
    earlier: list[Confirmation]
    train: Train

    @classmethod
    def of(cls, space: Space, folder: Path, train: Train) -> "Course":
        return cls(space, folder, files.read_confirmations(folder), train)

    def begin(self, asked: Asked) -> Confirmation:
        """The one that was interrupted, where that is what is asked; else a new one, written down before anything of it is run.
        Raises: UserError."""
        self._crown()
        for it in self.earlier:
            if it.state != RUNNING:
                continue
            if asked.said and asked.said != it.asked:
                raise UserError(
                    f"confirmation {it.number} of {it.candidate.name} was interrupted, and is not judged yet",
                    f"make confirm NAME={self.space.name} finishes it; SET=abandon={it.number} gives it up, which counts",
                )
            self._refuse_another_holder(it)
            refuse_dirty(self.space.lane, it.ranks)
            return it
        return Planner(self.space, self.folder, read_search(self.space, self.folder), self.earlier).new(asked)

    def finish(self, it: Confirmation) -> Confirmation:
        """Runs what it lacks, and judges. Raises: UserError where a run fails; the same call goes on."""
        jobs = {CANDIDATE: self._job(it, CANDIDATE), INCUMBENT: self._job(it, INCUMBENT)}
        runs: dict[str, list[Seen]] = {side: [] for side in jobs}
        ended: list[Stopped] = []
        for turn in turns(it.seeds, it.seeds):
            print(f"\n== {turn.side} ({jobs[turn.side].name}) seed {turn.seed}", flush=True)
            found = run_one(jobs[turn.side], turn.seed, self.train)
            if isinstance(found, str):
                ended.append(Stopped(side=turn.side, seed=turn.seed, what=found))
                break
            runs[turn.side].append(found)
            it = self._keep(it, runs)
        else:
            it = self._measured_again(it, jobs)
        verdict = judge(
            it.runs, it.against, level=it.level, alpha=it.power.alpha, entropy=it.entropy, ranks=it.ranks, slope=it.slope,
            stopped=ended,
        )  # fmt: skip
        it = it.model_copy(update={"stopped": ended, "state": JUDGED, "verdict": verdict, "ended": now()})
        files.write_confirmation(self.folder, it)
        self.earlier = [*(one for one in self.earlier if one.number != it.number), it]
        self._crown()
        return it

    def _crown(self) -> None:
        """Writes champion.json of the newest that promoted its candidate, where it is not there: a kill may have come between
        the verdict and it."""
        promoted = [it for it in self.earlier if it.state == JUDGED and it.verdict.outcome == PROMOTED]
        known = files.read_champion(self.folder)
        if promoted and (known is None or known.number < promoted[-1].number):
            files.write(self.folder / files.CHAMPION, champion(promoted[-1]))

    def _refuse_another_holder(self, it: Confirmation) -> None:
        """Raises: UserError where one that was interrupted is not held against what holds the lane by now."""
        holder = files.champion_of(self.folder.parent, it.lane, it.hardware_class)
        if holder and holder.champion.plan_hash != it.incumbent.plan_hash:
            raise UserError(
                f"confirmation {it.number} holds {it.candidate.name} against {it.incumbent.name}; since then search "
                f"{holder.space} has had a champion, plan {holder.champion.plan_hash[:8]}",
                f"give it up: SET=abandon={it.number}, which counts; then confirm it against that one",
            )

    def _keep(self, it: Confirmation, runs: dict[str, list[Seen]], **more: list[Seen]) -> Confirmation:
        it = it.model_copy(update={"runs": list(runs[CANDIDATE]), "against": list(runs[INCUMBENT])} | more)
        files.write_confirmation(self.folder, it)
        return it

    def _measured_again(self, it: Confirmation, jobs: dict[str, Job]) -> Confirmation:
        """Pairs that others took processor time from are run again, both sides, under the same seeds. Bits come out the same,
        and seconds are told apart by whose the machine was, never by how many they are."""
        runs = {CANDIDATE: list(it.runs), INCUMBENT: list(it.against)}
        for _ in range(AGAIN):
            for place, seed in enumerate(it.seeds):
                if not any(runs[side][place].disturbed for side in jobs):
                    continue
                for side, job in jobs.items():
                    print(f"\n== {side} ({job.name}) seed {seed} again: its pair was disturbed", flush=True)
                    found = run_anew(job, seed, self.train)
                    assert not isinstance(found, str), found  # the same bits passed before
                    replaced, runs[side][place] = runs[side][place], found
                    it = self._keep(it, runs, replaced=[*it.replaced, replaced])
        return it

    def abandon(self, number: int) -> Confirmation:
        """Gives up one that was interrupted: its seeds are spent, and it counts. Raises: UserError."""
        under_way = {it.number: it for it in self.earlier if it.state == RUNNING}
        if number not in under_way:
            left = ", ".join(map(str, under_way)) or "none is"
            raise UserError(f"confirmation {number} of {self.space.name} is not under way", f"under way: {left}")
        given_up = under_way[number].model_copy(update={"state": ABANDONED, "ended": now()})
        files.write_confirmation(self.folder, given_up)
        return given_up

    def _job(self, it: Confirmation, side: str) -> Job:
        said = it.candidate if side == CANDIDATE else it.incumbent
        job = job_again(said.name, said.words)
        refuse_class(job.hardware_class, it.hardware_class, it.space)
        if job.plan_hash != said.plan_hash:
            raise UserError(
                f"the {side} of confirmation {it.number} was plan {said.plan_hash[:8]}, its words are {job.plan_hash[:8]} now",
                f"go back to commit {it.commit[:8]}, or give it up: SET=abandon={it.number}",
            )
        return job


def champion(it: Confirmation) -> Champion:
    """What champion.json says after a confirmation that promotes its candidate."""
    against, _ = held_against(it.against, it.level, it.slope)
    seconds, before, slices = (
        Sample.of(values).mean
        for values in ([run.seconds for run in it.runs], [run.seconds for run in against], [run.slice for run in it.runs])
    )
    diff = differences(compose(it.candidate.words).plan, asdict(compose(it.incumbent.words).plan))
    return Champion(
        schema_version=VERSION, space=it.space, lane=it.lane, family=it.family, hardware_class=it.hardware_class,
        number=it.number, trial=it.trial, at=it.ended, champion=it.candidate, before=it.incumbent, seconds=seconds,
        before_seconds=before, slice=slices, level=it.level, diff=diff, runs=it.runs,
    )  # fmt: skip
