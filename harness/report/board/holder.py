"""Who is better, and who has held a record since when: the one rule behind `submit`, the leaderboard, its page and its figures.

Seconds decide where both sides have those that their lane ranks by (`harness/report/rule.py`) and seconds compare; else bits
per byte of all of val do. The slice, at the stop step that was fixed beforehand, decides the target alone. A claim takes
MIN_SEEDS seeds and, on time, a mean below the target; in an open lane nothing else is one. The holder is the best claim by
date. A holder stays on a tie.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.report.groups import Group, finished_at
from harness.report.run_data import RunData
from harness.report.statistics import MIN_SEEDS, Test, below, welch

DECIDES = "val_bpb"  # the figure of `metrics` that decides where seconds do not


@dataclass(frozen=True)
class Against:
    """How one group stands to another. `test`: Welch's, one-sided, that the group's figure lies below the other's."""

    other: Group
    on_time: bool  # the figure is the seconds of its rule, else bits per byte of all of val
    test: Test


@dataclass(frozen=True)
class Tenure:
    """One holder of the record: its group as it was on that day, how it compared with the holder before, and until when."""

    group: Group
    since: str
    until: str | None
    on_time: bool
    against: Against | None  # None of the first


def plan_of(group: Group) -> tuple[str, str]:
    """What stays the same when later seeds join."""
    return group.lane, group.plan_hash


def is_on_time(group: Group, timed: bool) -> bool:
    """Whether seconds rank it; `timed`: seconds compare where it stands."""
    return timed and group.to_target() is not None


def place(group: Group, timed: bool) -> tuple[bool, float]:
    """Sorts better before worse."""
    if is_on_time(group, timed):
        return False, group.to_target().mean
    return True, group.sample(DECIDES).mean


def against(group: Group, other: Group, timed: bool) -> Against:
    """Whether `group` is better than `other`: by the figure that both are ranked by."""
    on_time = is_on_time(group, timed) and is_on_time(other, timed)
    sides = [side.to_target() if on_time else side.sample(DECIDES) for side in (group, other)]
    return Against(other, on_time, welch(*sides))


def against_target(group: Group) -> Test | None:
    """The target's figure at the end below its level; None where the track is a fixed budget."""
    target = group.runs[0].target
    return below(group.sample(target.metric), target.level) if target else None


def why_no_claim(group: Group, timed: bool) -> str | None:
    """None of a claim, which takes a rank and may hold the record."""
    if group.n < MIN_SEEDS:
        return f"n = {group.n}: a claim takes {MIN_SEEDS} seeds"
    on_time, test = is_on_time(group, timed), against_target(group)
    if (on_time or group.rule.seconds_alone) and test and not test.significant:
        return f"target: {test.why_not}"
    if group.rule.seconds_alone and not on_time:
        return f"an open lane ranks seconds alone, and there are none: {group.disturbed or f'{group.arithmetic} is not timed'}"
    return None


def history(groups: list[Group], timed: bool) -> tuple[Tenure, ...]:
    """Replays the runs by the date they finished: after each, the best claim among what was there holds the record.

    Its own later seeds move a holder's mean, so it can lose the record without a rival finishing.
    """
    dated = [(at, i, run) for i, group in enumerate(groups) for run in group.runs if (at := finished(run))]
    seen: dict[int, list[RunData]] = defaultdict(list)
    claims: dict[int, tuple[tuple[bool, float], Group]] = {}
    changes: list[tuple[datetime, int | None, Group | None]] = []  # without a group: the last claim has lapsed
    for at, i, run in sorted(dated, key=lambda event: (event[0], event[1], event[2].record.seed)):
        seen[i].append(run)
        group = Group(tuple(sorted(seen[i], key=lambda run: run.record.seed)))
        if why_no_claim(group, timed) is None:
            claims[i] = (place(group, timed), group)
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
        stamp = until.isoformat() if until else None
        over = against(group, before, timed) if before else None
        yield Tenure(group, since.isoformat(), stamp, is_on_time(group, timed), over)
        before = group


def finished(run: RunData) -> datetime | None:
    """When the run ended, in UTC; None where its record does not say."""
    try:
        at = datetime.fromisoformat(finished_at(run))
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
