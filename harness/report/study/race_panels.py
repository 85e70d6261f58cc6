"""`race`: a row of panels a family. Left, what each dial does to its seconds to the line, as a ratio with its interval; right,
what each case came to in bits and seconds, with the line to pass and the slope along which bits are carried to it."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from harness.plan.race import HALF
from harness.plan.study import Study
from harness.report import style
from harness.report.statistics import Sample
from harness.report.study.families import Value, by_seed, changes, sample
from harness.report.study.frame import Case, new_figure
from harness.report.study.race import ln_seconds, raced, slopes, target_of, to_line, unit, why_no_line
from harness.report.study.table import disturbed
from harness.report.study.trials import Trial

ROW_IN, TITLE_IN, AXIS_IN, LEAST_IN = 0.24, 0.35, 0.35, 1.6
WIDE = 10.0  # times: limits further apart have ticks at 1, 2, 5


def draw_race(study: Study, cases: Sequence[Case]) -> Figure:
    trials = [trial for case in cases for trial in case.trials]
    line, target = to_line(study, trials), target_of(trials)
    rows = {family: {"": family, **study.of_family(family)} for family in study.families}
    looks = _looks(study)
    notes = [
        "left: seconds to the line over those of the family's own case at equal seeds, geometric means and 95% intervals over "
        f"seeds (hollow: one seed, no interval), log scale; {HALF} gives the slope, so that it is 1; right: a dot a run",
        *([why] if (why := why_no_line(study, line)) else []),
        *([taken] if (taken := disturbed(trials)) else []),
    ]
    heights = [max(LEAST_IN, ROW_IN * len(found) + TITLE_IN) for found in rows.values()]
    fig = new_figure(study, cases, sum(heights) + AXIS_IN + style.LEGEND_IN, *notes)
    axes = fig.subplots(len(rows), 2, squeeze=False, sharex="col", height_ratios=heights)
    axes[1, 1].sharey(axes[0, 1])
    for (forest, points), (family, found) in zip(axes, rows.items()):
        _forest(forest, trials, family, found, line.get(family), looks)
        points.set_title(style.words(f"{family}: {unit(trials)} of the slice"), loc="left")
        for dial, case in found.items():
            _runs(points, trials, case, looks[dial])
        if target:
            points.axhline(target.level, color=style.TARGET, linewidth=1.2, zorder=1, label=style.words(f"line: {target.line}"))
    _slopes(axes[:, 1], study, trials)
    for ax, label in zip(axes[-1], ("seconds to the line, over those of its own case", "training seconds (log scale)")):
        ax.set_xlabel(label)
    for ax in axes.flat:
        _log(ax)
    if target:
        style.add_legend(fig, axes[0, 1])
    return fig


def _looks(study: Study) -> dict[str, Case]:
    """By dial: a colour and marker of its own, the same in both families."""
    dials = dict.fromkeys(["", *(dial for family in study.families for dial in study.of_family(family))])
    return {dial: Case(dial, (), number) for number, dial in enumerate(dials)}


def _forest(
    ax: Axes, trials: Sequence[Trial], family: str, found: dict[str, str], line: Value | None, looks: dict[str, Case]
) -> None:
    ax.set_title(style.words(f"{family}: what a dial does to its seconds"), loc="left")
    ax.axvline(1, color=style.GREY, linewidth=0.8, zorder=1)
    for row, (dial, case) in enumerate(found.items()):
        if line and dial in ("", HALF):
            ax.plot([1], [row], linestyle="none", zorder=3, **_dot(looks[dial], True))
        elif line and (ratio := sample(changes(trials, family, case, line))):
            _interval(ax, row, ratio, looks[dial])
    ax.set_yticks(range(len(found)), [style.words(dial or "as it is") for dial in found])
    ax.set_ylim(len(found) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)


def _interval(ax: Axes, row: int, ratio: Sample, look: Case) -> None:
    bounds = ratio.interval()
    if bounds:
        ax.hlines(row, *map(math.exp, bounds), color=look.colour, linewidth=1.3, zorder=2)
    ax.plot([math.exp(ratio.mean)], [row], linestyle="none", zorder=3, **_dot(look, bounds is not None))


def _runs(ax: Axes, trials: Sequence[Trial], case: str, look: Case) -> None:
    runs = [trial for trial in trials if trial.case == case and trial.train_s and trial.raced]
    ax.plot([trial.train_s for trial in runs], [trial.raced for trial in runs], linestyle="none", zorder=3, **_dot(look, True))


def _slopes(axes: Sequence[Axes], study: Study, trials: Sequence[Trial]) -> None:
    """Through the mean of each family's own case, over the seconds of all runs: below it a case is sooner at the line."""
    seconds = [trial.train_s for trial in trials if trial.train_s]
    for ax, family in zip(axes, study.families):
        slope = slopes(study, trials).get(family)
        x, y = (sample(by_seed(trials, family, value)) for value in (ln_seconds, raced))
        if slope and x and y:
            ends = [min(seconds), max(seconds)]
            bits = [y.mean + slope.mean * (x.mean - math.log(end)) for end in ends]
            ax.plot(ends, bits, color=style.GREY, linestyle="--", linewidth=1, zorder=1, label="as its bits fall with seconds")


def _dot(look: Case, whole: bool) -> dict[str, object]:
    return style.dot(look.colour, look.marker, whole) | {"markersize": 5}


def _log(ax: Axes) -> None:
    """Along x, with ticks that a narrow range has too."""
    ax.set_xscale("log")
    ax.margins(x=0.08, y=0.08)
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high / low > WIDE else MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(style.MAGNITUDE)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
