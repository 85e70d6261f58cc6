"""Boards: which groups of seeds may be ranked against each other, and in which order.

A board is one protocol (track, data, how much of val was scored, lines, target) on one hardware class: seconds of two
classes and bits per byte of two protocols never meet in a rank, and open lanes have boards of their own. The rule of every
track is in `holder.py`. Emulated formats are on a board of their own, without seconds. On a CPU whose bf16 is emulated
everything is, so there the seconds compare; the class says so. A group with a run that was disturbed stands on the same board
as the others, below those ranked on time.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.record.schema import Line, Record
from harness.report.board.holder import (
    Against,
    Tenure,
    against,
    against_target,
    history,
    is_on_time,
    place,
    plan_of,
    why_no_claim,
)
from harness.report.groups import Group, protocol
from harness.report.rule import Rule
from harness.report.run_data import Target
from harness.report.statistics import Test
from harness.report.twin import best_group
from harness.revision import told


@dataclass(frozen=True)
class Twin:
    """What stands beside a row: the best ranked group of the twin lane, of the row's hardware class where there is one, and
    of three seeds where there is one."""

    lane: str
    group: Group | None  # None where the twin has no ranked record under this protocol
    timed: bool  # its seconds compare with the row's


@dataclass(frozen=True)
class Standing:
    """A row. `rank` counts claims; a group that is no claim stands where its figures put it, without a number."""

    group: Group
    place: int  # on the board, from 1, claims or not
    rank: int | None
    on_time: bool  # ranked by its seconds
    target: Test | None  # the target's figure below its level; None where the track is a fixed budget
    why_no_claim: str | None
    twin: Twin | None  # None where the lane names none


@dataclass(frozen=True)
class Board:
    track: str
    hardware_class: str
    timed: bool  # False for emulated formats: no seconds, no rates
    standings: tuple[Standing, ...]
    history: tuple[Tenure, ...]

    @property
    def rule(self) -> Rule:
        """What ranks its groups on time."""
        return self.standings[0].group.rule

    @property
    def section(self) -> str:
        """The track, with what sets this board apart from the track's others."""
        return self.standings[0].group.section

    @property
    def record(self) -> Record:
        """Any record of the board, for what all of them share: lines, target, data."""
        return self.standings[0].group.first

    @property
    def lines(self) -> dict[str, Line]:
        """The classical lines of this protocol; a run scored on part of val has none beside it."""
        return {} if self.record.metrics.partial else self.record.lines

    @property
    def target(self) -> Target | None:
        """None where the track is a fixed budget."""
        return self.standings[0].group.runs[0].target

    @property
    def target_id(self) -> str:
        return self.target.id if self.target else ""

    @property
    def holder(self) -> Tenure | None:
        """Who holds the record now."""
        return self.history[-1] if self.history and self.history[-1].until is None else None

    def is_held_by(self, group: Group) -> bool:
        """Whether this plan holds the record now; later seeds than those that took it are the same plan."""
        return self.holder is not None and plan_of(self.holder.group) == plan_of(group)

    def against_holder(self, group: Group) -> Against | None:
        """How `group` stands to who holds the record now, with every seed that plan has now; None where nobody does."""
        held = next((standing.group for standing in self.standings if self.is_held_by(standing.group)), None)
        return against(group, held, self.timed) if held else None

    def place_of(self, group: Group) -> int:
        """Where this plan stands on the board, from 0: what gives it its colour."""
        return [plan_of(standing.group) for standing in self.standings].index(plan_of(group))

    @property
    def measure(self) -> str:
        """What val is scored in."""
        return self.standings[0].group.measure

    @property
    def name(self) -> str:
        return self.hardware_class + ("" if self.timed else f", emulated formats: {self.measure} only")

    @property
    def title(self) -> str:
        """The name as people read it."""
        return self.name.replace(self.hardware_class, told(self.hardware_class), 1)


def make_boards(groups: Iterable[Group]) -> list[Board]:
    """Boards of the ranked groups, in order of track and hardware class; groups that are not ranked are left out."""
    ranked = [group for group in groups if group.ranked]
    native = {(_terms(group), group.hardware_class) for group in ranked if not group.emulated}
    by_key: dict[tuple[Any, ...], list[Group]] = defaultdict(list)
    for group in ranked:
        by_key[(_terms(group), group.hardware_class, not _is_timed(group, native))].append(group)
    by_terms: dict[tuple[Any, ...], list[Group]] = defaultdict(list)
    for group in ranked:
        by_terms[_terms(group)].append(group)
    return [_board(own, not untimed, by_terms[terms]) for (terms, _, untimed), own in sorted(by_key.items(), key=str)]


def mixed_protocols(groups: Iterable[Group]) -> list[str]:
    """One sentence for each track, open lanes apart, whose ranked records do not all share data, scoring, lines and target."""
    terms = defaultdict(set)
    for group in groups:
        if group.ranked:
            terms[group.section].add(_terms(group))
    return [
        f"track {track}: its ranked records follow {len(found)} protocols (data, scored part, lines or target differ); "
        "each is ranked apart"
        for track, found in sorted(terms.items())
        if len(found) > 1
    ]


def _terms(group: Group) -> tuple[Any, ...]:
    """What two groups of one board share besides the hardware class."""
    record = group.first
    target = group.runs[0].target
    what = target.id if target else ""
    return (*protocol(group.runs[0]), what, repr(sorted(record.lines.items())), group.rule.boards)


def _is_timed(group: Group, native: set[tuple[Any, ...]]) -> bool:
    return not group.emulated or (group.of_its_format and (_terms(group), group.hardware_class) not in native)


def _board(groups: list[Group], timed: bool, same_terms: list[Group]) -> Board:
    tenures = history(groups, timed)
    held = plan_of(tenures[-1].group) if tenures and tenures[-1].until is None else None
    standings, rank = [], 0
    for group in sorted(groups, key=lambda group: (place(group, timed), plan_of(group) != held, plan_of(group))):
        why_not = why_no_claim(group, timed)
        rank += why_not is None
        twin = _twin(group, timed, groups, same_terms)
        on_time, target = is_on_time(group, timed), against_target(group)
        standings.append(Standing(group, len(standings) + 1, None if why_not else rank, on_time, target, why_not, twin))
    first = groups[0]
    return Board(first.track, first.hardware_class, timed, tuple(standings), tenures)


def _twin(group: Group, timed: bool, same_board: list[Group], same_terms: list[Group]) -> Twin | None:
    lane = group.plan["lane"]["twin"]
    if lane is None:
        return None
    here, elsewhere = ([other for other in some if other.lane == lane] for some in (same_board, same_terms))
    compares = timed and bool(here)
    found = best_group(group, here or elsewhere, lambda other: place(other, compares))
    return Twin(lane, found, compares and not (found and found.disturbed))
