"""Where moments stand on an axis of a board's history: by date, or by the order of the records.

Many records may fall within an hour, and none for weeks. Where two of them would stand closer than CLOSE of the axis, each
takes the same room, and what happened between two records stands between them.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

DAY_S = 86400.0
CLOSE = 0.05  # of the axis: two records that are not told apart
TICKS = 5  # at most
STEPS_S = (60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, *(days * DAY_S for days in (1, 2, 7, 14, 28, 91, 182, 365)))


@dataclass(frozen=True)
class Timeline:
    """`records`: when they fell, rising; `last`: the last moment of all that is drawn; both in seconds since 1970."""

    records: tuple[float, ...]
    last: float

    @classmethod
    def of(cls, records: Iterable[str], others: Iterable[str] = ()) -> "Timeline":
        """From ISO 8601 dates: when the records fell, at least one, and what else is drawn."""
        fell = tuple(sorted(map(stamp, records)))
        return cls(fell, max([*fell, *map(stamp, others)]))

    @property
    def by_order(self) -> bool:
        gaps = [later - earlier for earlier, later in zip(self.records, self.records[1:])]
        return bool(gaps) and min(gaps) <= CLOSE * (self.last - self.records[0])

    @property
    def end(self) -> float:
        """Where the axis ends: the record that still stands reaches it."""
        if self.by_order:
            return float(len(self.records))
        return self.last + max(1.0, (self.last - self.records[0]) / 8 or DAY_S)

    @property
    def start(self) -> float:
        return 0.0 if self.by_order else self.records[0]

    def of_record(self, place: int) -> float:
        """Where a record stands, from 0; two that fell in the same second stand beside each other."""
        return float(place) if self.by_order else self.records[place]

    def x(self, iso: str) -> float:
        """Where a moment stands on the axis."""
        at = stamp(iso)
        if not self.by_order:
            return at
        before = max(0, bisect_right(self.records, at) - 1)
        if before == len(self.records) - 1:  # after the last record: up to four fifths of its room
            return before + 0.8 * (at - self.records[-1]) / max(self.last - self.records[-1], 1.0)
        begun, ends = self.records[before : before + 2]
        return before + max(0.0, at - begun) / (ends - begun)

    def ticks(self) -> list[tuple[float, str]]:
        """(x, date) of at most TICKS moments."""
        if self.by_order:
            every = -(-len(self.records) // TICKS)
            return [(float(i), f"{_utc(self.records[i]):%m-%d %H:%M}") for i in range(0, len(self.records), every)]
        step = self._step
        form = "%Y-%m-%d" if step >= DAY_S else "%m-%d %H:%M"
        marks = range(math.ceil(self.start / step), math.floor(self.end / step) + 1)
        return [(mark * step, _utc(mark * step).strftime(form)) for mark in marks][:: max(1, -(-len(marks) // TICKS))]

    @property
    def _step(self) -> float:
        """Seconds between two ticks of a date."""
        return next((step for step in STEPS_S if (self.end - self.start) / step <= TICKS - 1), STEPS_S[-1])

    @property
    def label(self) -> str:
        if not self.by_order and self._step >= DAY_S:
            return "date (UTC)"
        first, last = (f"{_utc(at):%Y-%m-%d}" for at in (self.records[0], self.last))
        when = first if first == last else f"{first} to {last}"
        return f"records in their order, with the hour they fell (UTC, {when})" if self.by_order else f"hour (UTC, {when})"


def stamp(iso: str) -> float:
    """Seconds since 1970 of an ISO 8601 date; one without a zone is in UTC."""
    at = datetime.fromisoformat(iso)
    return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp()


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
