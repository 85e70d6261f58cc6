"""A board's records one by one: by how much each fell, which change of the plan did it, and what the whole history comes to.

Who held the record since when is `holder.py`'s. A record that was taken by a smaller mean alone is one, and is said not to be
significantly below the one before.
"""

from dataclasses import dataclass

from harness.report.board.holder import DECIDES, Against, Tenure, against, finished, plan_of
from harness.report.board.plan_diff import Change, changes
from harness.report.board.standings import Board, Standing
from harness.report.groups import Group
from harness.report.statistics import ASSUMES, LEVEL, Sample, Test


@dataclass(frozen=True)
class Fall:
    """A record, and how it came after the one before. `number`: from 1; `changes`: of the plan before, none of the first."""

    number: int
    tenure: Tenure
    before: Tenure | None
    changes: tuple[Change, ...]

    @property
    def group(self) -> Group:
        return self.tenure.group

    @property
    def figure(self) -> Sample:
        """Seconds where the record is held on time, else bits per byte of all of val."""
        return figure_of(self.group, self.tenure.on_time)

    @property
    def significant(self) -> bool:
        """Whether it lies below the record before; the first one has nothing to lie below."""
        return self.tenure.against is None or self.tenure.against.test.significant

    @property
    def is_first_on_time(self) -> bool:
        """Whether the record before was held by bits per byte, so that seconds do not compare."""
        return self.tenure.on_time and self.before is not None and not self.before.on_time


def falls(board: Board) -> list[Fall]:
    """The records of a board, oldest first."""
    found: list[Fall] = []
    for number, tenure in enumerate(board.history, 1):
        before = found[-1].tenure if found else None
        changed = changes(tenure.group.plan, before.group.plan) if before else []
        found.append(Fall(number, tenure, before, tuple(changed)))
    return found


def compared(board: Board) -> list[Fall]:
    """The records that share an axis: those on time where there are any, else all."""
    found = falls(board)
    return [fall for fall in found if fall.tenure.on_time] or found


def claims_beside(board: Board, on_time: bool) -> list[Group]:
    """Claims that took no record, with a date and the figure that is drawn."""
    took = {plan_of(tenure.group) for tenure in board.history}

    def beside(standing: Standing) -> bool:
        group = standing.group
        is_claim = standing.rank is not None and standing.on_time == on_time
        return is_claim and plan_of(group) not in took and all(map(finished, group.runs))

    return [standing.group for standing in board.standings if beside(standing)]


def figure_of(group: Group, on_time: bool) -> Sample:
    return group.to_target() if on_time else group.sample(DECIDES)


def amount(sample: Sample, on_time: bool, group: Group) -> str:
    """ "180.3 ± 2.1 s" or "1.4245 ± 0.0013 bits per byte"."""
    return f"{sample.text('{:,.1f}')} s" if on_time else f"{sample.text('{:.4f}')} {group.shortly}"


def fell(fall: Fall) -> str:
    """By how much, in its unit and in percent, and whether that is significant."""
    found = fall.tenure.against
    if found is None:
        return "the first"
    said = f"{_fallen(found)}: {'significant' if found.test.significant else 'not significant'}"
    if fall.is_first_on_time:
        return f"the first on time; {said}"
    if found.test.difference > 0:
        return f"{said}; later seeds of its holder had cost the record before"
    return said


def _fallen(found: Against) -> str:
    """ "3.5 s (0.6%) less", than the other side of the comparison."""
    was, difference = figure_of(found.other, found.on_time).mean, found.test.difference
    side, size = "less" if difference <= 0 else "more", abs(difference)
    said = f"{size:,.1f} s" if found.on_time else f"{size:.4f} {found.other.shortly}"
    return f"{said} ({size / was:.1%}) {side}"


def in_all(board: Board) -> str:
    """The whole history in a sentence or two; a word of a single record, nothing where nobody has held it."""
    shown = compared(board)
    if len(shown) < 2:
        return "One record so far." if shown else ""
    first, last = shown[0], shown[-1]
    on_time = last.tenure.on_time
    later = shown[1:]
    found = against(last.group, first.group, board.timed)
    was, now = (figure_of(fall.group, on_time).mean for fall in (first, last))
    said = f"{was:,.1f} s -> {now:,.1f} s, {was / now:.2f}x" if on_time else f"{was:.4f} -> {now:.4f} {last.group.shortly}"
    kind = " on time" if on_time and len(shown) < len(board.history) else ""
    return (
        f"{len(shown)} records{kind}: {said}. The last is {_fallen(found)} than the first{_judged(found.test)}. "
        f"Significantly below the record before: {sum(fall.significant for fall in later)} of {len(later)}."
    )


def _judged(test: Test) -> str:
    p = "p < 0.0001" if test.p < 1e-4 else f"p = {test.p:.4f}"
    low, high = (f"{bound:+,.4g}" for bound in test.interval)
    verdict = "significant" if test.significant else "not significant"
    return f" ({LEVEL:.0%} interval of the difference {low} to {high}, {p}: {verdict}, {ASSUMES})"
