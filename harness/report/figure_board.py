"""`leaderboard-*.png`: the curves of a board's best groups, means over seeds with every seed behind them."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes

from harness.report import style
from harness.report.board import Board
from harness.report.figure_bpb import LABEL_GAP, spread
from harness.report.groups import Group

SHOWN = 6  # curves in one figure; more than these colours cannot be told apart
COLOURS = (style.BLUE, style.ORANGE, style.VERMILLION, style.PURPLE, style.SKY, style.BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P")


def draw_board(board: Board, path: Path) -> Path:
    """Bits per byte of the slice against tokens and, unless the board is without seconds, against training seconds."""
    groups = [standing.group for standing in board.standings[:SHOWN]]
    fig = style.plain_figure(f"{board.track}: bits per byte of the best groups", 4.0, _caption(board, groups))
    panels = fig.subplots(1, 2 if board.timed else 1, sharey=True, squeeze=False)[0]
    for ax, x in zip(panels, ("tokens", "train_s")):
        for line_id, line in board.lines.items():
            target = line_id == board.target["id"]
            colour, width = (style.TARGET, 1.3) if target else (style.GREY, 0.9)
            ax.axhline(line["slice"], color=colour, linewidth=width, linestyle=(0, (5, 2)), zorder=1.5)
        for group, colour, marker in zip(groups, COLOURS, MARKERS):
            _curves(ax, group, x, colour, marker)
        ax.set_xlim(left=0)
    by_bytes = groups[0].runs[0].counts_bytes
    panels[0].set_ylabel("bits per byte of the slice")
    panels[0].set_xlabel("training bytes" if by_bytes else "training tokens")
    panels[0].xaxis.set_major_formatter(style.MAGNITUDE)
    if board.timed:
        panels[1].set_xlabel("training time (s)")
    panels[0].set_ylim(*_y_range(board, groups))
    style.add_legend(fig, panels[0], columns=min(3, len(groups)))
    label_lines(panels[-1], board)
    return style.save(fig, path)


def mean_curve(group: Group, x: str) -> tuple[list[float], list[float]]:
    """(x, bits per byte) of the mean over seeds at each validation; x is "tokens" or "train_s", a mean as well."""
    points = list(zip(*(run.record["metrics"]["curve"] for run in group.runs)))
    mean: Callable[[str], list[float]] = lambda key: [sum(p[key] for p in at) / len(at) for at in points]  # noqa: E731
    return mean(x), mean("slice_bpb")


def _curves(ax: Axes, group: Group, x: str, colour: str, marker: str) -> None:
    for run in group.runs if group.n > 1 else ():
        curve = run.record["metrics"]["curve"]
        ax.plot([p[x] for p in curve], [p["slice_bpb"] for p in curve], color=colour, linewidth=0.6, alpha=0.55, zorder=3)
    ax.plot(*mean_curve(group, x), color=colour, marker=marker, markersize=4.5, markeredgecolor="white", markeredgewidth=0.6,
            label=name(group), zorder=4)  # fmt: skip


def name(group: Group) -> str:
    return f"{group.lane}, plan {group.plan_hash[:6]} (n = {group.n})"


def _caption(board: Board, groups: list[Group]) -> str:
    scored = "a capped part of val" if groups[0].runs[0].is_partial else (
        f"the first {groups[0].plan['track']['slice_bytes']:,} bytes of val"
    )  # fmt: skip
    left_out = len(board.standings) - len(groups)
    parts = [
        f"Track {board.track}, hardware class {board.hardware_class}",
        f"scored on {scored}",
        "thick: mean over seeds; thin: single seeds",
        *([] if board.timed else ["emulated formats: no seconds"]),
        *([f"the best {len(groups)} of {len(board.standings)} groups by rank"] if left_out else []),
    ]
    return "; ".join(parts) + "."


def _y_range(board: Board, groups: list[Group]) -> tuple[float, float]:
    values = [p["slice_bpb"] for group in groups for run in group.runs for p in run.record["metrics"]["curve"]]
    values += [line["slice"] for line in board.lines.values()]
    margin = 0.06 * (max(values) - min(values)) or 0.1
    return min(values) - margin, max(values) + margin


def label_lines(ax: Axes, board: Board) -> None:
    """Names each classical line right of the panel; labels that would overlap move apart and keep a leader line."""
    lines = sorted(board.lines.items(), key=lambda item: item[1]["slice"])
    low, high = ax.get_ylim()
    wanted = [(line["slice"] - low) / (high - low) for _, line in lines]
    for (line_id, line), y, at in zip(lines, wanted, spread(wanted, LABEL_GAP)):
        target = line_id == board.target["id"]
        ax.annotate(
            f"{line['label']} {line['slice']:.4f}", (1.0, y), (1.05, at), "axes fraction", va="center", ha="left", fontsize=8,
            color=style.TARGET if target else "#505050", weight="bold" if target else "normal", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": style.GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0,
                        "relpos": (0, 0.5)},
        )  # fmt: skip
