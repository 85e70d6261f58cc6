"""Doses: what more and more of a kind costs. A panel a kind with both families, and below it what it costs the second family
more; other dials, which are no dose, in rows of their own."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from harness.plan.study import Study
from harness.report import style
from harness.report.study.families import between, dials, effects, sample
from harness.report.study.frame import COLOURS, Case, family_keys, measure_of, new_figure, with_interval
from harness.report.study.trials import Trial

COLUMNS = 5
EFFECT_IN, MORE_IN, ROW_IN, ROWS_IN = 1.7, 1.25, 0.24, 0.6
APART = 1.6  # percentage points of dose: from one family's dots to the next one's
ROWS_APART = 0.3
BLACK = len(COLOURS) - 1  # the place of black, of what belongs to no family


def draw_doses(study: Study, cases: Sequence[Case]) -> Figure:
    trials = [trial for case in cases for trial in case.trials]
    kinds, others = study.doses, _others(study)
    lines = -(-len(kinds) // COLUMNS)
    (first, _), *rest = dials(study).values()
    zero = f"{first} and {rest[0][0]} are" if rest else f"{first} is"
    notes = [
        f"change of {measure_of(cases)} of val at equal seeds, in %: {zero} 0; means and 95% intervals over seeds (hollow: one "
        "seed, no interval)",
        *([f"below: {' minus '.join(reversed(study.families))}, in points of %"] if kinds else []),
        *([f"x: {study.axis}"] if kinds and study.axis else []),
    ]
    heights = [(EFFECT_IN + MORE_IN) * lines, (ROW_IN * len(others) + ROWS_IN) if others else 0]
    fig = new_figure(study, cases, sum(heights) + style.LEGEND_IN, *notes)
    top, bottom = _halves(fig, heights)
    if kinds:
        _kinds(top, study, trials, kinds, lines)
    if others:
        _rows(bottom, study, trials, others)
    style.add_legend(fig, fig.axes[0], extra=family_keys(study.families))
    return fig


def _others(study: Study) -> list[str]:
    """The dials that are no dose."""
    doses = {dial for of_kind in study.doses.values() for dial in of_kind.values()}
    (_, cases), *_ = dials(study).values()
    return [dial for dial in cases if dial not in doses]


def _halves(fig: Figure, heights: Sequence[float]) -> list[Figure | SubFigure]:
    """For panels of kinds, and for rows; the whole figure for both where there are no others."""
    return list(fig.subfigures(2, 1, height_ratios=heights)) if all(heights) else [fig, fig]


def _kinds(
    fig: Figure | SubFigure, study: Study, trials: Sequence[Trial], kinds: Mapping[str, Mapping[float, str]], lines: int
) -> None:
    """All effects on one scale, and all that one family pays more on another one."""
    columns = min(len(kinds), COLUMNS)
    axes = fig.subplots(
        2 * lines, columns, sharex=True, squeeze=False, height_ratios=[EFFECT_IN, MORE_IN] * lines
    )  # fmt: skip
    shown = [(2 * (number // columns), number % columns) for number in range(lines * columns)]
    for number, (line, column) in enumerate(shown):
        pair = axes[line, column], axes[line + 1, column]
        for ax, (first_line, first_column) in zip(pair, ((0, 0), (1, 0))):
            ax.sharey(axes[first_line, first_column]) if number else None
            ax.tick_params(labelleft=column == 0)
            ax.set_visible(number < len(kinds))
    for (line, column), (kind, levels) in zip(shown, kinds.items()):
        above, below = axes[line, column], axes[line + 1, column]
        above.set_title(style.words(kind.replace("-", " ")), loc="left")
        _doses(above, below, study, trials, levels)
        below.set_xlabel(f"{study.axis}, %" if columns < 3 and study.axis else "%")
    for line in range(lines):
        axes[2 * line, 0].set_ylabel("change, %")
        axes[2 * line + 1, 0].set_ylabel(f"{study.families[1]} more")


def _doses(above: Axes, below: Axes, study: Study, trials: Sequence[Trial], levels: Mapping[float, str]) -> None:
    lines: list[list[tuple[float, float]]] = [[(0.0, 0.0)] for _ in study.families]
    for level, dial in levels.items():
        changed = effects(study, trials, dial)
        for at, of_family in enumerate(changed):
            if found := sample(of_family):
                with_interval(above, level + APART * (at - 0.5), found, at)
                lines[at].append((level + APART * (at - 0.5), found.mean))
        if more := sample(between(*changed)):
            with_interval(below, level, more, BLACK)
    for at, points in enumerate(lines):
        above.plot(*zip(*points), color=COLOURS[at], linewidth=1, alpha=0.5, zorder=1)
    for ax in (above, below):
        ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1)
        ax.yaxis.set_major_locator(MaxNLocator(4))
    places = [0.0, *levels]
    below.set_xticks(places, [f"{place:g}" for place in places])


def _rows(fig: Figure | SubFigure, study: Study, trials: Sequence[Trial], others: Sequence[str]) -> None:
    ax = fig.subplots()
    ax.set_title("other dials: change, %" if study.doses else "change, %", loc="left")
    ax.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    for row, dial in enumerate(others):
        for at, of_family in enumerate(changed := effects(study, trials, dial)):
            if found := sample(of_family):
                with_interval(ax, row + ROWS_APART * (at - (len(changed) - 1) / 2), found, at, sideways=True)
    ax.set_yticks(range(len(others)), others)
    ax.set_ylim(len(others) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
