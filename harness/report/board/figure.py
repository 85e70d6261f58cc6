"""`leaderboard-*.png`: the curves of a board's best groups, means over seeds with every seed behind them."""

from pathlib import Path

from harness.report import style
from harness.report.board.standings import Board
from harness.report.curves import draw_group, draw_lines, label_lines, y_range
from harness.report.groups import Group

SHOWN = 6  # curves in one figure; more than these colours cannot be told apart
COLOURS = (style.BLUE, style.ORANGE, style.VERMILLION, style.PURPLE, style.SKY, style.BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P")


def draw_board(board: Board, path: Path) -> Path:
    """Bits per byte of the slice against tokens and, unless the board is without seconds, against training seconds; there
    without groups that were disturbed."""
    groups = [standing.group for standing in board.standings[:SHOWN]]
    fig = style.plain_figure(f"{board.section}: {groups[0].measure} of the best groups", 4.0, _caption(board, groups))
    panels = fig.subplots(1, 2 if board.timed else 1, sharey=True, squeeze=False)[0]
    for ax, x in zip(panels, ("tokens", "train_s")):
        draw_lines(ax, board.lines, board.target_id)
        for group, colour, marker in zip(groups, COLOURS, MARKERS):
            if x == "train_s" and group.disturbed:
                continue
            draw_group(ax, group, x, colour, marker, name(group))
        ax.set_xlim(left=0)
    by_bytes = groups[0].runs[0].counts_bytes
    panels[0].set_ylabel(f"{groups[0].measure} of the slice")
    panels[0].set_xlabel("training bytes" if by_bytes else "training tokens")
    panels[0].xaxis.set_major_formatter(style.MAGNITUDE)
    if board.timed:
        panels[1].set_xlabel("training time (s)")
    panels[0].set_ylim(*y_range(groups, board.lines))
    style.add_legend(fig, panels[0], columns=min(3, len(groups)))
    label_lines(panels[-1], board.lines, board.target_id)
    return style.save(fig, path)


def name(group: Group) -> str:
    return f"{group.lane}, plan {group.plan_hash[:6]} (n = {group.n})"


def _caption(board: Board, groups: list[Group]) -> str:
    left_out = len(board.standings) - len(groups)
    parts = [
        f"Track {board.section}, hardware class {board.hardware_class}",
        f"scored on {groups[0].runs[0].scored_on}",
        "thick: mean over seeds; thin: single seeds",
        *([] if board.timed else ["emulated formats: no seconds"]),
        *(f"no seconds of {name(group)}: a seed was disturbed" for group in groups if group.disturbed and board.timed),
        *([f"the best {len(groups)} of {len(board.standings)} groups by rank"] if left_out else []),
    ]
    return "; ".join(parts) + "."
