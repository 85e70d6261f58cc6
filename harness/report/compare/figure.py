"""`compare.png`: both curves against tokens and against seconds, and the difference under each fairness contract."""

from pathlib import Path

from matplotlib.axes import Axes

from harness.report import style
from harness.report.compare.ranking import Ranking, amount_text
from harness.report.curves import draw_group, draw_lines, label_lines, y_range
from harness.report.groups import Group, why_not_timed_beside

COLOURS, MARKERS = (style.BLUE, style.ORANGE), ("o", "s")


def draw_compare(a: Group, b: Group, rankings: list[Ranking], names: tuple[str, str], path: Path) -> Path:
    """Three panels. What may not share an axis is left out, and the caption says so."""
    ranked = [r for r in rankings if not r.refused]
    beside = a.runs[0].why_not_beside(b.runs[0]) is None
    untimed = why_not_timed_beside(a, b)
    timed = beside and not untimed
    notes = [f"A: {_label(a)}", f"B: {_label(b)}", f"{a.measure} of the slice; thick: mean over seeds, thin: each seed"]
    if ranked:
        notes.append("below: difference of means with its 95% Welch interval, filled where p < 0.01 with three seeds a side")
    if not beside:
        notes.append("curves left out: the protocols differ")
    elif not timed:
        notes.append(f"seconds left out: {untimed}")
    lines, target = a.first.lines, a.runs[0].target.id if a.runs[0].target else ""
    with style.styled():
        height = 3.3 + (0.34 * len(ranked) + 0.9 if ranked else 0)
        fig = style.plain_figure(f"{names[0]} (A) and {names[1]} (B)", height, "; ".join(notes) + ".")
        panels, forest = fig, None
        if ranked:
            panels, forest = fig.subfigures(2, 1, height_ratios=[3.3, 0.34 * len(ranked) + 0.9])
        left, right = panels.subplots(1, 2, sharey=True)
        for ax, key, shown in ((left, "tokens", beside), (right, "train_s", timed)):
            for group, colour, marker, name in zip((a, b), COLOURS, MARKERS, names) if shown else ():
                draw_group(ax, group, key, colour, marker, name)
            if beside:
                draw_lines(ax, lines, target)
        unit = "bytes" if a.runs[0].counts_bytes else "tokens"
        left.set(xlabel=f"training {unit}", ylabel=a.measure)
        right.set(xlabel="training time (s)" if timed else "training time: not comparable")
        left.xaxis.set_major_formatter(style.MAGNITUDE)
        for ax in (left, right):
            ax.set_xlim(left=0)
        if beside:
            left.set_ylim(*y_range((a, b), lines))
            label_lines(right, lines, target)
            style.add_legend(fig, left)
        if ranked:
            _differences(forest.subplots(), ranked, a.measure)
        return style.save(fig, path)


def _label(group: Group) -> str:
    seeds = ", ".join(map(str, group.seeds))
    return (
        f"{group.lane}, plan {group.plan_hash[:8]}, n = {group.n} (seeds {seeds}), {group.arithmetic}, {group.hardware_class}"
    )


def _differences(ax: Axes, ranked: list[Ranking], measure: str) -> None:
    ax.axvline(0, color=style.GREY, linewidth=1)
    for row, ranking in enumerate(reversed(ranked)):
        difference = ranking.difference
        colour = COLOURS[0 if difference.difference < 0 else 1]
        if difference.interval:
            ax.plot(difference.interval, [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        filled = ranking.test.significant
        ax.plot(difference.difference, row, "o", color=colour, markerfacecolor=colour if filled else "white", markersize=6)
    ax.set_yticks(range(len(ranked)), [f"{r.basis} ({amount_text(r)})" for r in reversed(ranked)])
    ax.set_ylim(-0.6, len(ranked) - 0.4)
    ax.set_xlabel(f"A - B ({measure}): A is ahead left of 0, B right")
