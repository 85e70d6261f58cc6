"""Runs that are seeds of one thing: a group is what a leaderboard row, a comparison and a gate speak of.

Runs belong together when lane, plan hash, hardware class and protocol are the same. Commits may differ within a group (a
README fix changes none of the bits); the group says how many there are.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.record.record_folders import record_folders
from harness.record.schema import Record
from harness.report.rule import Rule, rule_of
from harness.report.run_data import RunData, load_run
from harness.report.statistics import Sample


@dataclass(frozen=True)
class Group:
    """Finished runs in seed order, at least one. No two share a seed: of several the newest stands."""

    runs: tuple[RunData, ...]

    @property
    def first(self) -> Record:
        """The record of the lowest seed, for what all runs of a group share."""
        return self.runs[0].record

    @property
    def plan(self) -> dict[str, Any]:
        return self.runs[0].plan

    @property
    def lane(self) -> str:
        return self.first.lane

    @property
    def track(self) -> str:
        return self.first.track

    @property
    def rule(self) -> Rule:
        """What ranks it on time."""
        return rule_of(self.plan)

    @property
    def section(self) -> str:
        """The track, with what sets its boards apart from the track's others."""
        return self.track + self.rule.boards

    @property
    def hardware_class(self) -> str:
        """With the number of ranks, whether or not bits depend on it: seconds do."""
        return self.first.speed_class

    @property
    def plan_hash(self) -> str:
        return self.first.plan_hash

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.record.seed for run in self.runs)

    @property
    def n(self) -> int:
        return len(self.runs)

    @property
    def ranked(self) -> bool:
        return all(run.record.ranked for run in self.runs)

    @property
    def why_unranked(self) -> str | None:
        """The reasons of its runs in one line, each once."""
        return "; ".join(sorted({run.why_unranked for run in self.runs if run.why_unranked})) or None

    @property
    def emulated(self) -> bool:
        return self.first.precision.execution == "emulated"

    @property
    def of_its_format(self) -> bool:
        """Whether its seconds and its memory are those of its format: not of an emulated one."""
        return self.first.precision.timed

    @property
    def disturbed(self) -> str | None:
        """Whose machine was not its own, and why, in one line; None where every seed's was."""
        return "; ".join(f"seed {run.record.seed}: {run.disturbed}" for run in self.runs if run.disturbed) or None

    @property
    def timed(self) -> bool:
        """Whether its seconds may be claimed: those of its format, on a machine that was the run's own."""
        return self.of_its_format and self.disturbed is None

    @property
    def precision(self) -> str:
        """The planned format."""
        return self.first.precision.format

    @property
    def architecture(self) -> str:
        """The lane's name without its precision: what lanes have in common that differ in nothing else."""
        return self.lane.removesuffix(f"-{self.precision}")

    @property
    def arithmetic(self) -> str:
        """ "bf16 emulated": the planned format and how it was executed."""
        return f"{self.precision} {self.first.precision.execution}"

    @property
    def measure(self) -> str:
        """What val is scored in: bits per byte, of a track of tasks bits per answer."""
        return self.runs[0].measure

    @property
    def shortly(self) -> str:
        return self.runs[0].shortly

    @property
    def commits(self) -> tuple[str, ...]:
        return tuple(sorted({run.record.provenance.commit for run in self.runs}))

    @property
    def finished_at(self) -> str:
        """ISO 8601 of the last run: when the group was complete. Empty where no run says."""
        return max(map(finished_at, self.runs))

    def sample(self, key: str) -> Sample:
        """A figure of `metrics` over the seeds, such as "val_bpb"; every run must have it."""
        return Sample.of([getattr(run.record.metrics, key) for run in self.runs])

    def seconds(self) -> Sample | None:
        """Those that rank it by its rule, whatever they are worth; None where there are none."""
        return self.rule.seconds(self.runs)

    def to_target(self) -> Sample | None:
        """The same; None too unless every seed had a machine of its own."""
        return None if self.disturbed else self.seconds()


def why_not_timed_beside(a: Group, b: Group) -> str | None:
    """Why seconds of the two must not share an axis or a rank, or None where those of all seeds may."""
    apart = a.runs[0].why_seconds_differ(b.runs[0])
    return apart or "; ".join(f"{group.lane}, {group.disturbed}" for group in (a, b) if group.disturbed) or None


def protocol(run: RunData) -> tuple[Any, ...]:
    """What must match for bits of val to share an axis: track, data, and how much of val was scored."""
    record = run.record
    scored = "part" if run.is_partial else "all"
    return (record.track, record.data.train_sha256, record.data.val_sha256, scored)


@dataclass
class Found:
    """Groups in order of track, hardware class, lane, plan; `problems` has one sentence a record that was skipped."""

    groups: list[Group] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ranked(self) -> list[Group]:
        return [group for group in self.groups if group.ranked]


def find_groups(folders: Iterable[str | Path]) -> Found:
    """Every finished run below `folders`, grouped. Ranked and unranked runs never share a group.

    A record that cannot be read is named in `problems` and skipped.
    """
    found = Found()
    found.groups = group_runs(read_runs(folders, found.problems))
    return found


def read_runs(folders: Iterable[str | Path], problems: list[str], studies: bool = False) -> Iterator[RunData]:
    """Every finished run below `folders` but copies that belong to a study, one at a time; what cannot be read goes to
    `problems`, a sentence each."""
    for path in record_folders(folders, studies):
        try:
            yield load_run(path)
        except UserError as error:
            problems.append(error.problem)


def group_runs(runs: Iterable[RunData]) -> list[Group]:
    """Groups in order of track, hardware class, lane, plan."""
    by_key: dict[tuple[Any, ...], dict[int, RunData]] = {}
    for run in runs:
        r = run.record
        key = (r.track, r.speed_class, r.lane, not r.ranked, r.plan_hash, protocol(run))
        by_seed = by_key.setdefault(key, {})
        if r.seed not in by_seed or finished_at(by_seed[r.seed]) < finished_at(run):
            by_seed[r.seed] = run
    return [Group(tuple(by_key[key][seed] for seed in sorted(by_key[key]))) for key in sorted(by_key, key=str)]


def finished_at(run: RunData) -> str:
    """ISO 8601; empty where the record does not say."""
    return run.record.provenance.finished_at or ""
