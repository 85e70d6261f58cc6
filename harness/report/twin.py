"""What stands for a lane beside another run, group or lane: the hardware class comes first, then the number of seeds. What is
left is decided by what is asked: of runs the newest, on a board the better figures, of two lanes the newest groups."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UserError
from harness.record.read import read_record
from harness.record.record_folders import record_folders
from harness.report.groups import Group
from harness.report.statistics import MIN_SEEDS


@dataclass(frozen=True)
class Found:
    """What a search for a finished record met. `folder` is None where no ranked record of the lane exists."""

    folder: Path | None
    same_class: bool
    unreadable: list[str] = field(default_factory=list)  # one message for each record that could not be read


def best_record(folders: Iterable[str | Path], lane: str, speed_class: str) -> Found:
    """The ranked record of a lane to stand beside another run: of `speed_class` where there is one, else of any; among
    those one that was not disturbed, then the newest; times of files mean nothing after a checkout, so they only break ties.
    `folders` are searched downwards, usually `["runs", "results"]`; one that does not exist is empty."""
    ranked, unreadable = [], []
    for folder in record_folders(folders):
        try:
            record = read_record(folder)
        except UserError as error:
            unreadable.append(error.problem)
            continue
        if record.lane == lane and record.ranked:
            age = (record.provenance.finished_at or "", (folder / "record.json").stat().st_mtime)
            ranked.append((record.speed_class == speed_class, record.disturbed is None, *age, folder))
    same_class, *_, folder = max(ranked, default=(False, None))
    return Found(folder, same_class, unreadable)


def best_group(beside: Group, groups: Sequence[Group], place: Callable[[Group], tuple]) -> Group | None:
    """The group to stand beside another one: of its hardware class where there is one, of a claim's seeds where there is one,
    then the better by `place`."""
    return min(
        groups,
        key=lambda group: (group.hardware_class != beside.hardware_class, group.n < MIN_SEEDS, place(group)),
        default=None,
    )


def best_pair(pairs: Iterable[tuple[Group, Group]]) -> tuple[Group, Group]:
    """The two groups to be compared: those that share a hardware class, then those of most seeds, then the newest."""
    return max(pairs, key=lambda pair: (
        pair[0].hardware_class == pair[1].hardware_class, min(pair[0].n, pair[1].n), pair[0].n + pair[1].n,
        min(pair[0].finished_at, pair[1].finished_at), pair[0].plan_hash, pair[1].plan_hash,
    ))  # fmt: skip
