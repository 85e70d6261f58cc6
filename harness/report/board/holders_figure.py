"""`holders-*.png`: how the record of a board fell, each step labelled with what changed."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from harness.report import style
from harness.report.board.falls import Fall, claims_beside, compared, figure_of
from harness.report.board.plan_diff import EXPERTS, Change, leaf, ordered, written
from harness.report.board.standings import Board
from harness.report.board.timeline import Timeline
from harness.report.curves import Level, label_levels
from harness.report.groups import Group

DENSE, MOE = style.BLUE, style.VERMILLION
WIDE = 3.0  # the largest figure over the smallest one: from here on the axis is logarithmic
LABEL_IN, LABEL_PT, LABEL_CHARS = 0.165, 7.5, 50
LEAST_IN = 3.0


def draw_holders(board: Board, path: Path) -> Path:
    """Seconds, or bits per byte of all of val where nobody has held the record on time, over the board's history."""
    records = compared(board)
    on_time = records[0].tenure.on_time
    others = claims_beside(board, on_time)
    time = Timeline.of([fall.tenure.since for fall in records], [group.finished_at for group in others])
    height = max(LEAST_IN, LABEL_IN * 1.3 * len(records) + 1.0)
    fig = style.plain_figure(f"{board.section}: how the record fell", height, _caption(board, records, others))
    ax = fig.subplots()
    for place, fall in enumerate(records):
        _step(ax, time, place, fall)
    for group in others:
        ax.plot(time.x(group.finished_at), figure_of(group, on_time).mean, color=_colour(group), marker="o", markersize=4.5,
                markeredgewidth=0, alpha=0.35, linestyle="none", zorder=2)  # fmt: skip
    _risers(ax, time, records)
    _axes(ax, time, [figure_of(one, on_time).mean for one in (*others, *(fall.group for fall in records))])
    ax.set_ylabel(f"seconds {board.rule.counted}" if on_time else f"{records[0].group.measure} of all of val")
    _name(ax, records, height)
    style.add_legend(fig, ax, extra=_keys(records, others))
    return style.save(fig, path)


def _step(ax: Axes, time: Timeline, place: int, fall: Fall) -> None:
    """Thick while it was held, thin on to its label."""
    since, colour, sample = time.of_record(place), _colour(fall.group), fall.figure
    until = time.x(fall.tenure.until) if fall.tenure.until else time.end
    ax.plot([since, until], [sample.mean] * 2, color=colour, linewidth=2.4, solid_capstyle="butt", zorder=4)
    ax.plot([until, time.end], [sample.mean] * 2, color=style.GREY, linewidth=0.6, linestyle=(0, (1, 3)), zorder=1.5)
    face = colour if fall.significant else "white"
    ax.errorbar(since, sample.mean, yerr=sample.sd, color=colour, marker="o", markersize=5.5, markerfacecolor=face,
                markeredgecolor=colour, capsize=2, elinewidth=1, linestyle="none", zorder=5)  # fmt: skip


def _risers(ax: Axes, time: Timeline, records: Sequence[Fall]) -> None:
    for place, (before, fall) in enumerate(zip(records, records[1:]), 1):
        at = time.of_record(place)
        ax.plot([at, at], [before.figure.mean, fall.figure.mean], color=style.GREY, linewidth=0.8, zorder=3)


def _axes(ax: Axes, time: Timeline, values: Sequence[float]) -> None:
    places, names = zip(*time.ticks()) if time.ticks() else ((), ())
    ax.set_xticks(places, names)
    ax.set_xlim(time.start - 0.03 * (time.end - time.start), time.end)
    ax.set_xlabel(time.label)
    if max(values) >= WIDE * min(values):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=12))
        ax.yaxis.set_major_formatter(style.MAGNITUDE)
        ax.yaxis.set_minor_formatter(NullFormatter())


def _name(ax: Axes, records: Sequence[Fall], height_in: float) -> None:
    """What changed, at the right end of each step."""
    ax.set_ylim(ax.get_ylim())
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [to_axes.transform((ax.get_xlim()[1], fall.figure.mean))[1] for fall in records]
    levels = [Level(label(fall), float(at), fall is records[-1]) for fall, at in zip(records, heights)]
    label_levels(ax, levels, LABEL_IN / (height_in - 0.8), LABEL_PT)


def label(fall: Fall) -> str:
    """ "#3 180 s: muon.lr 0.02→0.05, width 256→192, +5": as many changes as LABEL_CHARS hold."""
    value = f"{fall.figure.mean:,.1f} s" if fall.tenure.on_time else f"{fall.figure.mean:.4f}"
    said, rest = f"#{fall.number} {value}: ", ordered(fall.changes)
    if not rest:
        return _cut(said + (fall.group.lane if fall.before is None else "the same plan"))
    shown: list[str] = []
    while rest and (not shown or len(said) + len(", ".join([*shown, _few(rest[0])])) <= LABEL_CHARS):
        shown.append(_few(rest.pop(0)))
    return _cut(said + ", ".join([*shown, *([f"+{len(rest)}"] if rest else [])]))


def _cut(said: str) -> str:
    return said if len(said) <= LABEL_CHARS + len(", +99") else f"{said[:LABEL_CHARS]}..."


def _few(change: Change) -> str:
    if change.key == "lane":
        return f"lane {change.after}"
    if change.key == EXPERTS and not (change.before and change.after):
        return "→".join(f"{experts} experts" if experts else "dense" for experts in (change.before, change.after))
    return f"{leaf(change.key)} {_brief(change.before)}→{_brief(change.after)}"


def _brief(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return written(value)
    return style.magnitude(value) if abs(value) >= 1e5 else f"{value:.3g}" if isinstance(value, float) else str(value)


def _colour(group: Group) -> str:
    return MOE if group.first.router_health else DENSE


def _keys(records: Sequence[Fall], others: Sequence[Group]) -> list[Line2D]:
    """What is in the figure, and nothing else."""
    drawn = {_colour(group) for group in (*others, *(fall.group for fall in records))}
    kinds = ((DENSE, "dense"), (MOE, "mixture of experts"))
    found = [Line2D([], [], color=colour, linewidth=2.4, label=name) for colour, name in kinds if colour in drawn]
    plain = {"color": style.GREY, "marker": "o", "linestyle": "none", "markersize": 5.5}
    if not all(fall.significant for fall in records):
        found.append(Line2D([], [], **plain, markerfacecolor="white", label="not significantly below the record before"))
    if others:
        found.append(Line2D([], [], **plain, alpha=0.5, markeredgewidth=0, label="claim that took no record"))
    return found


def _caption(board: Board, records: Sequence[Fall], others: Sequence[Group]) -> str:
    left_out = len(board.history) - len(records)
    parts = [
        f"Track {board.section}, hardware class {board.hardware_class}; a record is the best claim by date, at least 3 seeds",
        "bars: sd over seeds",
        *([f"{left_out} by bits per byte, before seconds counted, are in the table alone"] if left_out else []),
    ]
    return "; ".join(parts) + "."
