"""`parts`: for each part of val, a row a dial, families side by side: its bits per byte, and what the dial changes of them."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.plan.study import Study
from harness.report import style
from harness.report.statistics import Sample
from harness.report.study.families import by_seed, dials, percents, sample
from harness.report.study.frame import Case, family_keys, new_figure, with_interval
from harness.report.study.parts import of_part, part_names

ROW_IN, TITLE_IN = 0.26, 0.55
APART = 0.3  # of a row: from one family's dots to the next one's

Row = Mapping[str, Sample | None]  # by family


def draw_parts(study: Study, cases: Sequence[Case]) -> Figure:
    trials = [trial for case in cases for trial in case.trials]
    scored = part_names(trials)
    names = [name for name in study.parts or scored if name in scored]
    missing = [name for name in study.parts if name not in scored]
    families = dials(study)
    (base, cases_of_first), *_ = families.values()
    rows = ["as it is" if study.families else base, *cases_of_first]
    whom = "its family's own case" if study.families else base
    notes = [f"means and 95% intervals over seeds (hollow: one seed, no interval); right: against {whom} at equal seeds"]
    notes += [f"no run has scores of {', '.join(missing)}"] if missing else []
    notes += ["no run has scores of parts of val"] if not names else []
    fig = new_figure(study, cases, max(len(names), 1) * (ROW_IN * len(rows) + TITLE_IN) + style.LEGEND_IN, *notes)
    if not names:
        return fig
    axes = fig.subplots(len(names), 2, sharey=True, squeeze=False)
    for (left, right), name in zip(axes, names):
        left.set_title(style.words(f"{name}: bits per byte"), loc="left")
        right.set_title(style.words(f"{name}: change, %"), loc="left")
        value = of_part(name)
        for at, (own, by_dial) in enumerate(families.values()):
            shift = APART * (at - (len(families) - 1) / 2)
            for row, case in enumerate((own, *by_dial.values())):
                _dot(left, row + shift, sample(by_seed(trials, case, value)), at)
                if row:
                    _dot(right, row + shift, sample(percents(trials, own, case, value)), at)
        right.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
        left.set_yticks(range(len(rows)), rows)
        left.set_ylim(len(rows) - 0.5, -0.5)
        for ax in (left, right):
            ax.tick_params(axis="y", length=0)
            ax.margins(x=0.1)
            ax.xaxis.set_major_locator(MaxNLocator(4))
    style.add_legend(fig, axes[0, 0], extra=family_keys(study.families))
    return fig


def _dot(ax: Axes, place: float, found: Sample | None, family: int) -> None:
    if found:
        with_interval(ax, place, found, family, sideways=True)
