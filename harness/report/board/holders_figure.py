"""`holders-*.png`: who held the record of a board when, on bits per byte and on seconds."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from harness.report import style
from harness.report.board.figure import COLOURS, name
from harness.report.board.standings import Board, Tenure
from harness.report.statistics import Sample

TAIL = timedelta(days=1)  # how far the newest holder's step reaches where nothing came after it


def draw_holders(board: Board, path: Path) -> Path:
    """Steps over dates. The seconds panel is left out where nobody has held the record on time."""
    timed = [tenure for tenure in board.history if tenure.on_time]
    measure = board.history[0].group.measure
    caption = (
        f"Track {board.track}, hardware class {board.hardware_class}; a holder is the best claim by date: at least 3 seeds, "
        f"seconds to target where every seed reached it, else {measure} of all of val; bars: sd over seeds."
    )
    fig = style.plain_figure(f"{board.track}: who held the record", 3.0, caption)
    panels = fig.subplots(1, 2 if timed else 1, sharex=True, squeeze=False)[0]
    _steps(panels[0], board.history, lambda tenure: tenure.group.sample("val_bpb"), board)
    panels[0].set_ylabel(f"{measure} of all of val")
    if timed:
        _steps(panels[1], timed, lambda tenure: tenure.group.to_target(), board)
        panels[1].set_ylabel("training time to target (s)")
    style.add_legend(fig, panels[0], columns=3)
    return style.save(fig, path)


def _steps(ax: Axes, tenures: Sequence[Tenure], figure: Callable[[Tenure], Sample], board: Board) -> None:
    end = datetime.fromisoformat(board.history[-1].since)
    first = datetime.fromisoformat(board.history[0].since)
    end += max(TAIL, (end - first) / 8)
    named = set()
    for tenure in tenures:
        place, sample = board.place_of(tenure.group), figure(tenure)
        colour = COLOURS[place] if place < len(COLOURS) else style.GREY
        since = datetime.fromisoformat(tenure.since)
        until = datetime.fromisoformat(tenure.until) if tenure.until else end
        label = None if place in named else style.words(name(tenure.group))
        ax.plot([since, until], [sample.mean] * 2, color=colour, linewidth=2.4, solid_capstyle="butt")
        ax.errorbar(since, sample.mean, yerr=sample.sd, color=colour, marker="o", markersize=5, markeredgecolor="white",
                    capsize=2, elinewidth=1, linestyle="none", label=label)  # fmt: skip
        named.add(place)
    locator = AutoDateLocator(minticks=3, maxticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.set_xlabel("date (UTC)")
