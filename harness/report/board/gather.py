"""What a folder of records amounts to: boards, unranked runs apart, and everything that is wrong, named."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.record.read import by_kind
from harness.report import integrity
from harness.report.board.claims import check_claims
from harness.report.board.holder import plan_of
from harness.report.board.standings import Board, Standing, make_boards, mixed_protocols
from harness.report.groups import Group, finished_at, group_runs, read_runs
from harness.report.run_data import RunData


@dataclass
class Leaderboard:
    """`unsound`, `unreadable` and `doubts` are what makes a report fail; all three are shown, none of them ranked."""

    boards: list[Board]
    unranked: list[Group]
    unsound: list[tuple[RunData, list[str]]]  # the evidence does not hold: the run and a sentence a reason
    unreadable: list[str]  # corrupt, of a newer schema, or foreign: one sentence each
    doubts: list[str] = field(default_factory=list)  # what single records cannot show: protocols mixed, claims altered
    records: int = 0  # finished runs that could be read
    newest: str = ""  # date of the newest of them: a report carries no other, so the same records give the same bytes

    @property
    def holds(self) -> bool:
        return not (self.unsound or self.unreadable or self.doubts)

    def standing_of(self, group: Group) -> tuple[Board, Standing]:
        """Where a ranked group's plan stands on its hardware class, with every sound seed that was read."""
        return next(
            (board, standing)
            for board in self.boards
            for standing in board.standings
            if (*plan_of(standing.group), board.hardware_class) == (*plan_of(group), group.hardware_class)
        )

    @property
    def tracks(self) -> list[str]:
        """Those that boards are of, open lanes apart."""
        return list(dict.fromkeys(board.section for board in self.boards))


def gather(folders: Sequence[str | Path]) -> Leaderboard:
    """Reads every record below `folders` once. A record that is unreadable or whose evidence does not hold is not ranked."""
    unreadable: list[str] = []
    unsound: list[tuple[RunData, list[str]]] = []
    read: list[str] = []

    def sound() -> Iterator[RunData]:
        for run in read_runs(folders, unreadable):
            read.append(finished_at(run))
            reasons = integrity.check(run)
            if reasons:
                unsound.append((_slim(run), reasons))
            else:
                yield _slim(run)

    groups = group_runs(sound())
    return Leaderboard(
        boards=make_boards(groups),
        unranked=[group for group in groups if not group.ranked],
        unsound=unsound,
        unreadable=unreadable,
        doubts=[*mixed_protocols(groups), *(doubt for folder in folders for doubt in check_claims(folder))],
        records=len(read),
        newest=max(read, default="")[:10],
    )


def _slim(run: RunData) -> RunData:
    """Without the rows of metrics.jsonl, which only the check needs: a thousand records stay small in memory."""
    return replace(run, rows=by_kind([]))


def slug(board: Board) -> str:
    """A name for the board's files and anchors: words for people, and a hash because two classes may share the words."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{board.section} {board.hardware_class}".lower())[:40].strip("-")
    target = {"label": board.target.label, "slice": board.target.level, "id": board.target.id} if board.target else None
    lines = {name: line.content() for name, line in board.lines.items()}
    key = repr((board.section, board.name, board.record.data.content(), target, lines))
    return f"{words}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"
