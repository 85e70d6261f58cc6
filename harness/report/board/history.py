"""A board's history in words: a line a record for Markdown and page, and the file that holds every change in full.

history/<board>.json
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.board.falls import Fall, amount, falls, fell, figure_of, in_all
from harness.report.board.gather import slug
from harness.report.board.holder import DECIDES, Against
from harness.report.board.plan_diff import ordered
from harness.report.board.sentences import about_tenure
from harness.report.board.standings import Board
from harness.report.groups import Group
from harness.report.markup import head, href, link, paragraph, row, text
from harness.shown import one_line

FOLDER = "history"
SHOWN = 5  # changes of a line in Markdown
COLUMNS = ("#", "since, UTC", "until", "lane", "n", "record", "fell by", "what changed", "against the holder before")
NOBODY = "Nobody holds this record yet: a claim takes three seeds."
AGAIN = "`make replay RECORD=...` runs it again"
HOW = (
    "A record is the best claim by date, and `make replay RECORD=...` runs any of them again. What changed is said of the plan "
    "against that of the record before, as one would type it, floats at four digits"
)


@dataclass(frozen=True)
class Line:
    """What a line says of a record, without markup; `changes`: in full."""

    fall: Fall
    number: str
    since: str
    until: str
    lane: str
    n: str
    record: str
    fell: str
    changes: list[str]
    says: str


def lines(board: Board) -> list[Line]:
    return [_line(fall) for fall in falls(board)]


def _line(fall: Fall) -> Line:
    tenure, group = fall.tenure, fall.group
    return Line(
        fall=fall,
        number=str(fall.number),
        since=_minute(tenure.since),
        until=_minute(tenure.until) if tenure.until else "now",
        lane=group.lane,
        n=str(group.n),
        record=amount(fall.figure, tenure.on_time, group),
        fell=fell(fall),
        changes=[change.text for change in fall.changes],
        says=about_tenure(tenure),
    )


def _minute(iso: str) -> str:
    return iso[:16].replace("T", " ")


def history_markdown(board: Board, out: Path) -> list[str]:
    """The lines of a board's history; links and the figure are relative to `out`."""
    if not board.history:
        return [NOBODY, ""]
    found = ["Who held the record:", "", *head(COLUMNS, [":---"] * len(COLUMNS))]
    for line in lines(board):
        n = f"{text(line.n)}: {_seeds(line.fall.group, out)}"
        lane = f"{text(line.lane)}<br>plan {text(line.fall.group.plan_hash[:8])}"
        found.append(
            row([
                line.number, text(line.since), text(line.until), lane, n, text(line.record), text(line.fell),
                _shortened(line.fall), text(line.says),
            ])
        )  # fmt: skip
    full = f"{HOW if len(board.history) > 1 else AGAIN} ([in full]({FOLDER}/{slug(board)}.json))."
    return [*found, "", paragraph(f"{text(in_all(board))} {full}"), "", f"![holders](figures/holders-{slug(board)}.png)", ""]


def _seeds(group: Group, out: Path) -> str:
    return ", ".join(link(run.record.seed, href(run.folder, out)) for run in group.runs)


def _shortened(fall: Fall) -> str:
    """As many changes as a line holds, and how many more there are."""
    said = [text(change.short) for change in ordered(fall.changes)[:SHOWN]]
    more = len(fall.changes) - len(said)
    return "; ".join([*said, *([f"and {more} more"] if more else [])]) or "–"


def history_json(board: Board, out: Path) -> bytes:
    """The content of the board's file, whose links are relative to `out`."""
    content = {
        "track": board.section, "board": board.name, "in_all": in_all(board), "records": [
            _stored(line, out) for line in lines(board)
        ],
    }  # fmt: skip
    return json.dumps(_safe(content), indent=1, ensure_ascii=True).encode()


def _stored(line: Line, out: Path) -> dict[str, Any]:
    fall, group = line.fall, line.fall.group
    return {
        "number": fall.number, "since": fall.tenure.since, "until": fall.tenure.until, "lane": group.lane,
        "plan_hash": group.plan_hash, "records": {str(run.record.seed): href(run.folder, out) for run in group.runs},
        "figure": _name(fall.tenure.on_time), "mean": _digits(fall.figure.mean), "sd": _digits(fall.figure.sd),
        "against": _against(fall.tenure.against), "says": line.says, "changes": line.changes,
    }  # fmt: skip


def _against(found: Against | None) -> dict[str, Any] | None:
    if found is None:
        return None
    was, test = figure_of(found.other, found.on_time).mean, found.test
    figures = {"was": _digits(was), "difference": _digits(test.difference), "interval": [*map(_digits, test.interval)]}
    return {"figure": _name(found.on_time), **figures, "p": _digits(test.p), "significant": test.significant}


def _name(on_time: bool) -> str:
    return "seconds" if on_time else DECIDES


def _digits(value: float | None) -> float | None:
    """Six digits: the last bits of a quantile depend on the library."""
    return None if value is None else float(f"{value:.6g}")


def _safe(value: Any) -> Any:
    """Other people's words on one line each."""
    if isinstance(value, dict):
        return {one_line(key): _safe(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_safe(item) for item in value]
    return one_line(value) if isinstance(value, str) else value
