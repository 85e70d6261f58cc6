"""`LEADERBOARD.md`: the boards as GitHub shows them."""

from pathlib import Path

from harness.report.board.cells import Cell, columns, recipe, tasks, twin_row
from harness.report.board.cells import row as cells_of
from harness.report.board.gather import Leaderboard, slug
from harness.report.board.history import history_markdown
from harness.report.board.sentences import ABOUT_TASKS, HOW_TESTED, about, how_ranked
from harness.report.board.standings import Board, Standing
from harness.report.groups import Group
from harness.report.markup import head, heading, href, item, link, paragraph, row, text

TITLES = {"rank": "---:", "lane": ":---"}


def leaderboard_markdown(leaderboard: Leaderboard, out: Path) -> str:
    """The whole file; links and figures are relative to `out`, the folder it is written to."""
    parts = [heading(1, "Leaderboard"), "", _lead(leaderboard), "", how_ranked(leaderboard.boards), "", HOW_TESTED, ""]
    for track in leaderboard.tracks:
        parts += [heading(2, f"Track {text(track)}"), ""]
        for board in (board for board in leaderboard.boards if board.section == track):
            parts += [heading(3, text(board.title)), "", *_board(board, out)]
    parts += _unranked(leaderboard.unranked, out)
    parts += _listed("Evidence does not hold", "Named and not ranked:", [
        f"{link(run.folder, href(run.folder, out))}: {text('; '.join(reasons))}"
        for run, reasons in leaderboard.unsound
    ])  # fmt: skip
    parts += _listed("Does not fit together", "", [text(doubt) for doubt in leaderboard.doubts])
    parts += _listed("Could not be read", "Skipped:", [text(problem) for problem in leaderboard.unreadable])
    return "\n".join(parts).rstrip() + "\n"


def _lead(leaderboard: Leaderboard) -> str:
    return (
        f"Made by `make report` from {leaderboard.records} records, the newest of {text(leaderboard.newest or 'no date')}. "
        "[index.html](index.html) is the same with curves, plans and sorting; open it from a file."
    )


def _board(board: Board, out: Path) -> list[str]:
    lines = [f"Target: {text(board.target.text)}." if board.target else "No target: a fixed budget."]
    if board.lines:
        known = ", ".join(f"{text(line.label)} {line.slice:.4f} / {line.val:.4f}" for line in board.lines.values())
        lines[0] += f" Lines of this protocol, slice / all val: {known}."
    shown = columns(board.rule)
    lines += ["", *head([column.name for column in shown], [TITLES.get(column.key, "---:") for column in shown])]
    for standing in board.standings:
        lines.append(row(_cell(cell, standing.group) for cell in cells_of(standing, board.timed)))
        if standing.twin:
            lines.append(row(_twin_cell(cell, standing) for cell in twin_row(standing.twin)))
    lines += ["", f"![curves](figures/leaderboard-{slug(board)}.png)", ""]
    for standing in board.standings:
        runs = ", ".join(link(f"seed {run.record.seed}", href(run.folder, out)) for run in standing.group.runs)
        label = f" **Not a claim: {text(standing.why_no_claim)}.**" if standing.why_no_claim else ""
        said = text(" ".join(about(standing, board)))
        lines.append(item(f"**{text(standing.group.lane)}**, {text(recipe(standing.group))}, {runs}.{label} {said}"))
    return [*lines, "", *_tasks(board), *history_markdown(board, out)]


def _tasks(board: Board) -> list[str]:
    """What the runs of each group know of the track's tasks."""
    header, rows = tasks(board)
    if not rows:
        return []
    marks = [":---", *["---:"] * (len(header) - 1)]
    table = [*head([*map(text, header)], marks), *(row(map(text, cells)) for cells in rows)]
    return [paragraph(text(ABOUT_TASKS)), "", *table, ""]


def _cell(cell: Cell, group: Group) -> str:
    return f"**{text(cell.text)}**<br>{text(recipe(group))}" if cell.key == "lane" else text(cell.text)


def _twin_cell(cell: Cell, standing: Standing) -> str:
    if cell.key != "lane":
        return text(cell.text)
    group = standing.twin.group
    if group is None:
        return f"twin {text(cell.text)}: no ranked record yet"
    elsewhere = "" if group.hardware_class == standing.group.hardware_class else f"<br>on {text(group.hardware_class)}"
    return f"twin {text(cell.text)}{elsewhere}"


def _unranked(groups: list[Group], out: Path) -> list[str]:
    if not groups:
        return []
    columns = ["track", "hardware class", "lane", "seeds", "slice", "all val", "why"]
    lines = [heading(2, "Unranked"), "", "Shown apart, in no rank.", "", *head(columns, [":---"] * len(columns))]
    for group in groups:
        seeds = ", ".join(link(run.record.seed, href(run.folder, out)) for run in group.runs)
        figures = [f"{group.sample(key).mean:.4f}" for key in ("slice_bpb", "val_bpb")]
        words = map(text, (group.track, group.hardware_class, group.lane))
        lines.append(row([*words, seeds, *figures, text(group.why_unranked)]))
    return [*lines, ""]


def _listed(title: str, lead: str, sentences: list[str]) -> list[str]:
    return [heading(2, title), "", *([lead, ""] if lead else []), *map(item, sentences), ""] if sentences else []
