"""Boards: which groups of seeds may be ranked against each other, in which order, and who held the record when.

A board is one protocol (track, data, how much of val was scored, lines, target) on one hardware class: seconds of two
classes and bits per byte of two protocols never meet in a rank. The rule of every track: seconds to target where every
seed reached it, then bits per byte of all of val. Emulated formats are on a board of their own, without seconds. On a CPU
whose bf16 is emulated everything is, so there the seconds compare; the class says so.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.report.groups import Group, finished_at, protocol
from harness.report.run_data import RunData
from harness.report.statistics import MIN_SEEDS, Test, below, welch
from harness.report.target import Target


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
    on_time: bool  # ranked by its seconds to target
    target: Test | None  # the target's figure below its level; None where the track is a fixed budget
    why_no_claim: str | None
    twin: Twin | None  # None where the lane names none


@dataclass(frozen=True)
class Tenure:
    """One holder of the record: its group as it was on that day, how it compared with the holder before, and until when."""

    group: Group
    since: str
    until: str | None
    on_time: bool
    against: Group | None
    test: Test | None  # Welch, on seconds where both were ranked by them, else on bits per byte


@dataclass(frozen=True)
class Board:
    track: str
    hardware_class: str
    timed: bool  # False for emulated formats: no seconds, no rates
    standings: tuple[Standing, ...]
    history: tuple[Tenure, ...]

    @property
    def record(self) -> dict[str, Any]:
        """Any record of the board, for what all of them share: lines, target, data."""
        return self.standings[0].group.first

    @property
    def lines(self) -> dict[str, Any]:
        """The classical lines of this protocol; a run scored on part of val has none beside it."""
        return {} if self.record["metrics"]["partial"] else self.record["lines"]

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
        return self.holder is not None and _plan(self.holder.group) == _plan(group)

    def place_of(self, group: Group) -> int:
        """Where this plan stands on the board, from 0: what gives it its colour."""
        return [_plan(standing.group) for standing in self.standings].index(_plan(group))

    @property
    def title(self) -> str:
        return self.hardware_class + ("" if self.timed else ", emulated formats: bits per byte only")


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
    """One sentence for each track whose ranked records do not all share data, scoring, lines and target."""
    terms = defaultdict(set)
    for group in groups:
        if group.ranked:
            terms[group.track].add(_terms(group))
    return [
        f"track {track}: its ranked records follow {len(found)} protocols (data, scored part, lines or target differ); "
        "each is ranked apart"
        for track, found in sorted(terms.items())
        if len(found) > 1
    ]


def _plan(group: Group) -> tuple[str, str]:
    return group.lane, group.plan_hash


def _terms(group: Group) -> tuple[Any, ...]:
    """What two groups of one board share besides the hardware class."""
    record = group.first
    target = group.runs[0].target
    return (*protocol(group.runs[0]), target.id if target else "", json.dumps(record["lines"], sort_keys=True))


def _is_timed(group: Group, native: set[tuple[Any, ...]]) -> bool:
    return not group.emulated or (group.timed and (_terms(group), group.hardware_class) not in native)


def _board(groups: list[Group], timed: bool, same_terms: list[Group]) -> Board:
    history = _history(groups, timed)
    standings, rank = [], 0
    for group in sorted(groups, key=lambda group: (_place(group, timed), group.lane, group.plan_hash)):
        on_time = _on_time(group, timed)
        target = _against_target(group)
        why_not = _why_no_claim(group, on_time, target)
        rank += why_not is None
        twin = _twin(group, timed, groups, same_terms)
        standings.append(Standing(group, len(standings) + 1, None if why_not else rank, on_time, target, why_not, twin))
    first = groups[0]
    return Board(first.track, first.hardware_class, timed, tuple(standings), history)


def _against_target(group: Group) -> Test | None:
    target = group.runs[0].target
    return below(group.sample(target.metric), target.level) if target else None


def _on_time(group: Group, timed: bool) -> bool:
    return timed and group.to_target() is not None


def _place(group: Group, timed: bool) -> tuple[bool, float]:
    """Sorts better before worse."""
    if _on_time(group, timed):
        return False, group.to_target().mean
    return True, group.sample("val_bpb").mean


def _why_no_claim(group: Group, on_time: bool, target: Test | None) -> str | None:
    if group.n < MIN_SEEDS:
        return f"n = {group.n}: a claim takes {MIN_SEEDS} seeds"
    return f"target: {target.why_not}" if on_time and target and not target.significant else None


def _twin(group: Group, timed: bool, same_board: list[Group], same_terms: list[Group]) -> Twin | None:
    lane = group.plan["lane"]["twin"]
    if lane is None:
        return None
    here = [other for other in same_board if other.lane == lane]
    elsewhere = [other for other in same_terms if other.lane == lane]
    if not (here or elsewhere):
        return Twin(lane, None, False)
    if here:
        return Twin(lane, min(here, key=lambda other: (other.n < MIN_SEEDS, _place(other, timed))), timed)
    of_class = [other for other in elsewhere if other.hardware_class == group.hardware_class]
    return Twin(lane, min(of_class or elsewhere, key=lambda other: (other.n < MIN_SEEDS, _place(other, False))), False)


def _history(groups: list[Group], timed: bool) -> tuple[Tenure, ...]:
    """Replays the runs by the date they finished: after each, the best claim among what was there holds the record.

    A holder stays on a tie. Its own later seeds move its mean, so it can lose the record without a rival finishing.
    """
    dated = [(at, i, run) for i, group in enumerate(groups) for run in group.runs if (at := finished(run))]
    seen: dict[int, list[RunData]] = defaultdict(list)
    claims: dict[int, tuple[tuple[bool, float], Group]] = {}
    changes: list[tuple[datetime, int | None, Group | None]] = []  # without a group: the last claim has lapsed
    for at, i, run in sorted(dated, key=lambda event: (event[0], event[1], event[2].record["seed"])):
        seen[i].append(run)
        group = Group(tuple(sorted(seen[i], key=lambda run: run.record["seed"])))
        target = _against_target(group)
        if _why_no_claim(group, _on_time(group, timed), target) is None:
            claims[i] = (_place(group, timed), group)
        else:
            claims.pop(i, None)
        holder = changes[-1][1] if changes else None
        best = min(claims, key=lambda i: (claims[i][0], i != holder, i), default=None)
        if best != holder:
            changes.append((at, best, claims[best][1] if best is not None else None))
    return tuple(_tenures(changes, timed))


def _tenures(changes: list[tuple[datetime, int | None, Group | None]], timed: bool) -> Iterator[Tenure]:
    before = None
    for (since, _, group), until in zip(changes, [at for at, _, _ in changes[1:]] + [None]):
        if group is None:
            continue
        test = compare(group, before, timed) if before else None
        stamp = until.isoformat() if until else None
        yield Tenure(group, since.isoformat(), stamp, _on_time(group, timed), before, test)
        before = group


def compare(group: Group, other: Group, timed: bool) -> Test:
    """Welch's test that `group` is better than `other`: on seconds where both are ranked by them, else on bits per byte."""
    if _on_time(group, timed) and _on_time(other, timed):
        return welch(group.to_target(), other.to_target())
    return welch(group.sample("val_bpb"), other.sample("val_bpb"))


def finished(run: RunData) -> datetime | None:
    """When the run ended, in UTC; None where its record does not say."""
    try:
        at = datetime.fromisoformat(finished_at(run))
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
