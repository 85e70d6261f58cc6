"""Replays: a record's plan run again in this checkout, as a run of its own with clock, record and chain.

What the record says is data. The words are made from the typed values of plan.yaml, as `reexecute.py` does, and are as few as
say the same: the lane, and the keys in which the plan differs from it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.errors import UserError
from harness.launch import child
from harness.launch.reexecute import as_many_threads, changed_keys, command_line
from harness.plan.compose import compose
from harness.plan.fingerprint import flat, plan_hash
from harness.plan.schema import Plan, Run
from harness.plan.words import word
from harness.reading import is_there
from harness.record.read import read_claim
from harness.record.record_folders import record_folders
from harness.record.schema import Record
from harness.report.groups import find_groups, protocol
from harness.report.integrity import check
from harness.report.run_data import RunData, load_run
from harness.revision import REVISION, revision_of

CLAIM = "claim-*.json"
NAME_ONE = "name results/LANE/SEED-PLAN, a claim such as results/LANE/claim-....json, or a folder of records"
ALWAYS = ("lane", "track", "seed", "unranked")  # words that stay, whatever the lane says


@dataclass(frozen=True)
class Replay:
    """One run to make: `source`'s plan under `seed`. `recorded`: seeds of it on this hardware class that are there now."""

    source: RunData
    seed: int
    recorded: tuple[RunData, ...]

    @property
    def record(self) -> RunData | None:
        """What the replay stands against: the record of this very seed, where there is one."""
        if self.seed == self.source.record.seed:
            return self.source
        return next((run for run in self.recorded if run.record.seed == self.seed), None)

    @property
    def name(self) -> str:
        return f"{self.source.folder}, seed {self.seed}"

    def words(self) -> list[str]:
        """For `speedrun`: the plan, and windows as the record has them, whose chains are compared."""
        window = self.source.windows[0]["step"]
        log = [word("run.log_every_steps", window)] if window != Run().log_every_steps else []
        return [*short_words(self.source, self.seed), *log]


def records_at(path: Path) -> list[RunData]:
    """The records that a path names: a run folder or its record.json, a claim, or a folder of any of them.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist", NAME_ONE)
    if path.match(CLAIM):
        folders = [path.parent / name for name in read_claim(path).records]
    elif path.is_file():
        folders = [path.parent] if path.name == "record.json" else []
    else:
        folders = [path] if is_there(path / "record.json") else record_folders([path])
    if not folders:
        raise UserError(f"{path} is no record, and none lies below it", NAME_ONE)
    return [load_run(folder) for folder in folders]


def replays(runs: Sequence[RunData], seeds: Sequence[int] | None) -> list[Replay]:
    """What is to be run: each record again, or each of their plans under these seeds."""
    if seeds is None:
        return [Replay(run, run.record.seed, recorded_beside(run)) for run in runs]
    plans = {(run.record.lane, run.record.plan_hash, run.record.speed_class): run for run in reversed(runs)}
    return [Replay(run, seed, recorded_beside(run)) for run in reversed(plans.values()) for seed in seeds]


def recorded_beside(run: RunData) -> tuple[RunData, ...]:
    """Seeds of the run's plan, protocol and speed class below the folder that it lies in, itself among them."""
    found = [other for other in _below(run.folder.parent) if other.record.seed != run.record.seed]
    return tuple(sorted([run, *(other for other in found if _alike(run, other))], key=lambda other: other.record.seed))


def _alike(run: RunData, other: RunData) -> bool:
    same_plan = (run.record.lane, run.record.plan_hash) == (other.record.lane, other.record.plan_hash)
    return same_plan and run.same_class(other) and protocol(run) == protocol(other)


@cache
def _below(folder: Path) -> list[RunData]:
    return [run for group in find_groups([folder]).groups for run in group.runs]


def refuse_what_cannot_be_replayed(runs: Iterable[RunData], any_class: bool) -> None:
    """`any_class`: a record of another hardware class, or revision of the arithmetic, runs nevertheless.

    Raises:
        UserError: for every record that cannot be run here, why not, and what to type.
    """
    problems, remedies = [], {}
    for run in runs:
        try:
            _refuse(run, any_class)
        except UserError as error:
            problems.append(error.problem)
            remedies.setdefault(error.remedy.replace(str(run.folder), ""), error.remedy)  # of one kind the first is enough
    if problems:
        raise UserError("\n    ".join(problems), "\n  ".join(remedies.values()))


def _refuse(run: RunData, any_class: bool) -> None:
    record, where = run.record, run.folder
    own_commit = f'make verify RECORD={where} SET="commit=record steps=all" has its bits at its own commit, and leaves no run'
    anyway = f"make replay RECORD={where} SET=class=any runs its plan here, and claims nothing of seconds or bits"
    if record.fork:
        raise UserError(
            f"{where} was forked from {record.fork}: it does not start at step 0",
            "replay the run that it came from; fork=RUN@STEP of make speedrun branches again",
        )
    if broken := check(run):
        raise UserError(f"{where}: its evidence does not hold: {'; '.join(broken)}", f"restore it: git checkout -- {where}")
    if not any_class and (revision := revision_of(record.hardware_class)) != REVISION:
        raise UserError(
            f"{where} is of revision {revision} of the arithmetic, this checkout of {REVISION}: other bits, and other seconds",
            f"{own_commit}\n  {anyway}",
        )
    try:
        changed, gained = changed_keys(run)
    except UserError as error:
        raise UserError(f"{where}: {error.problem}", own_commit) from error
    if changed or gained:
        listed = "\n      ".join([*changed, *gained])
        raise UserError(
            f"{where}: this checkout makes another plan of the record's (recorded -> here):\n      {listed}", own_commit
        )
    if not any_class and (here := class_here(compose(command_line(run)).plan, record)) != record.speed_class:
        raise UserError(
            f"{where} is of another hardware class:\n      {record.speed_class} (record)\n      {here} (here)", anyway
        )


def class_here(plan: Plan, record: Record) -> str:
    """The hardware class of this machine, on as many threads and ranks as the record had."""
    from harness.train import machine

    found = machine.detect(plan, record.hardware.world_size or 1)
    return replace(found, threads=int(as_many_threads(record).get("OMP_NUM_THREADS", found.threads))).speed_class


def short_words(run: RunData, seed: int) -> list[str]:
    """The words that compose to the record's plan under another seed, without those that its lane says already.

    Raises:
        UserError: as `command_line`.
    """
    full = command_line(run, seed)
    planned = compose(full).plan
    unranked = ["unranked=true"] if planned.unranked else []
    of_lane = [said for said in full if said.startswith(("lane=", "track="))]
    plain, wanted = flat(compose([*of_lane, *unranked]).plan), flat(planned)
    names = [said.partition("=")[0] for said in full]
    short = [said for said, key in zip(full, names) if key in ALWAYS or plain.get(key) != wanted.get(key)]
    return short if plan_hash(compose(short).plan) == plan_hash(planned) else full


def run_again(one: Replay, more: Sequence[str]) -> tuple[int, Path | None]:
    """`speedrun`, aloud, on as many threads and ranks as the record had: (exit status, the replay's folder). `more`: words that
    change no bit. An unfinished replay goes on."""
    ended = child.run(
        ["speedrun", *one.words(), *more], program=child.program(one.source.record.hardware.world_size or 1), errors="passed",
        environment=as_many_threads(one.source.record), heard=lambda line: print(line, end="", flush=True),
    )  # fmt: skip
    return ended.status, ended.record.parent if ended.record else None
