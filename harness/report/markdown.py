"""`LEADERBOARD.md`: the boards as GitHub shows them."""

import os
from pathlib import Path

from harness.report.board import Board, Standing
from harness.report.cells import COLUMNS, Cell, recipe, row, twin_row
from harness.report.groups import Group
from harness.report.leaderboard import Leaderboard, slug
from harness.report.sentences import HOW_RANKED, HOW_TESTED, about, about_tenure

TITLES = {"rank": "---:", "lane": ":---"}


def leaderboard_markdown(leaderboard: Leaderboard, out: Path) -> str:
    """The whole file; links and figures are relative to `out`, the folder it is written to."""
    parts = ["# Leaderboard", "", _lead(leaderboard), "", HOW_RANKED, "", HOW_TESTED, ""]
    for track in leaderboard.tracks:
        parts += [f"## Track {_escape(track)}", ""]
        for board in (board for board in leaderboard.boards if board.track == track):
            parts += [f"### {_escape(board.title)}", "", *_board(board, out)]
    parts += _unranked(leaderboard.unranked, out)
    parts += _listed("Evidence does not hold", "Named and not ranked:", [
        f"[{_escape(run.folder)}]({_link(run.folder, out)}): {_escape('; '.join(reasons))}"
        for run, reasons in leaderboard.unsound
    ])  # fmt: skip
    parts += _listed("Does not fit together", "", [_escape(doubt) for doubt in leaderboard.doubts])
    parts += _listed("Could not be read", "Skipped:", [_escape(problem) for problem in leaderboard.unreadable])
    return "\n".join(parts).rstrip() + "\n"


def _lead(leaderboard: Leaderboard) -> str:
    return (
        f"Made by `make report` from {leaderboard.records} records, the newest of {leaderboard.newest or 'no date'}. "
        "[index.html](index.html) is the same with curves, plans and sorting; open it from a file."
    )


def _board(board: Board, out: Path) -> list[str]:
    lines = [f"Target: {_escape(board.target.text)}." if board.target else "No target: a fixed budget."]
    if board.lines:
        known = ", ".join(f"{_escape(line['label'])} {line['slice']:.4f} / {line['val']:.4f}" for line in board.lines.values())
        lines[0] += f" Lines of this protocol, slice / all val: {known}."
    lines += ["", _table_line([column.name for column in COLUMNS]), _table_line([TITLES.get(c.key, "---:") for c in COLUMNS])]
    for standing in board.standings:
        lines.append(_table_line([_cell(cell, standing.group) for cell in row(standing, board.timed)]))
        if standing.twin:
            lines.append(_table_line([_twin_cell(cell, standing) for cell in twin_row(standing.twin)]))
    lines += ["", f"![curves](figures/leaderboard-{slug(board)}.png)", ""]
    for standing in board.standings:
        runs = ", ".join(f"[seed {run.record['seed']}]({_link(run.folder, out)})" for run in standing.group.runs)
        label = f" **Not a claim: {standing.why_no_claim}.**" if standing.why_no_claim else ""
        said = _escape(" ".join(about(standing, board)))
        lines.append(f"- **{_escape(standing.group.lane)}**, {_escape(recipe(standing.group))}, {runs}.{label} {said}")
    return [*lines, "", *_history(board)]


def _cell(cell: Cell, group: Group) -> str:
    return f"**{_escape(cell.text)}**<br>{_escape(recipe(group))}" if cell.key == "lane" else _escape(cell.text)


def _twin_cell(cell: Cell, standing: Standing) -> str:
    if cell.key != "lane":
        return _escape(cell.text)
    group = standing.twin.group
    if group is None:
        return f"twin {_escape(cell.text)}: no ranked record yet"
    elsewhere = "" if group.hardware_class == standing.group.hardware_class else f"<br>on {_escape(group.hardware_class)}"
    return f"twin {_escape(cell.text)}{elsewhere}"


def _history(board: Board) -> list[str]:
    if not board.history:
        return ["Nobody holds this record yet: a claim takes three seeds.", ""]
    lines = ["Who held the record:", "", _table_line(["since", "until", "lane", "n", "against the holder before"]),
             _table_line([":---"] * 5)]  # fmt: skip
    for tenure in board.history:
        until = tenure.until[:10] if tenure.until else "now"
        lines.append(_table_line([tenure.since[:10], until, _escape(tenure.group.lane), str(tenure.group.n),
                                  _escape(about_tenure(tenure))]))  # fmt: skip
    return [*lines, "", f"![holders](figures/holders-{slug(board)}.png)", ""]


def _unranked(groups: list[Group], out: Path) -> list[str]:
    if not groups:
        return []
    head = ["track", "hardware class", "lane", "seeds", "slice", "all val", "why"]
    lines = ["## Unranked", "", "Shown apart, in no rank.", "", _table_line(head), _table_line([":---"] * len(head))]
    for group in groups:
        seeds = ", ".join(f"[{run.record['seed']}]({_link(run.folder, out)})" for run in group.runs)
        figures = [f"{group.sample(key).mean:.4f}" for key in ("slice_bpb", "val_bpb")]
        words = (_escape(text) for text in (group.track, group.hardware_class, group.lane))
        lines.append(_table_line([*words, seeds, *figures, _escape(group.why_unranked)]))
    return [*lines, ""]


def _listed(title: str, lead: str, sentences: list[str]) -> list[str]:
    return [f"## {title}", "", *([lead, ""] if lead else []), *(f"- {s}" for s in sentences), ""] if sentences else []


def _table_line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _link(folder: Path, out: Path) -> str:
    return Path(os.path.relpath(folder, out)).as_posix().replace(" ", "%20")


def _escape(text: object) -> str:
    """Records are other people's words: they may not end a table cell or start a tag."""
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
