"""A router's signal: its gradient over training beside the smallest step of the format, how far it moves, what its assignment
is worth, and what each dial changes of the bits."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from harness.plan.study import Study
from harness.report import style
from harness.report.statistics import Sample
from harness.report.study.families import percents, sample
from harness.report.study.frame import COLOURS, Case, family_keys, measure_of, new_figure, with_interval
from harness.report.study.signal import dial_of, floor, moved, over_training, worth
from harness.report.study.trials import Trial

ROW_IN = 0.24
APART = 0.3
OWN = "as it is"  # the dial of a family's own case
STRAIGHT, DASHED, DOTTED = "-", (0, (4, 2)), (0, (1, 1.5))


def draw_signal(study: Study, cases: Sequence[Case]) -> Figure:
    dials = list(dict.fromkeys(dial_of(study, case.name)[1] or OWN for case in cases))
    notes = [
        "gradient: RMS over all routers on the steps that close a window, mean over seeds "
        f"({' solid, '.join(study.families)} dashed; dotted: the smallest step that the format tells apart from 0 in the "
        "layer's gradients, of the family's own case)",
        f"means and 95% intervals over seeds; change of {measure_of(cases)} of val against the family's own case",
    ]
    rows_in = ROW_IN * len(dials) + 0.6
    fig = new_figure(study, cases, 2.6 + rows_in, *notes)
    above, below = fig.subfigures(2, 1, height_ratios=(2.6, rows_in))
    _gradients(above.subplots(), study, cases, dials)
    updates, assigned, bits = below.subplots(1, 3, sharey=True)
    _forest(updates, study, cases, dials, moved, "update / weights")
    updates.set_xscale("log")
    updates.xaxis.set_minor_formatter(NullFormatter())
    _forest(assigned, study, cases, dials, worth, "assignment is worth, bits")
    trials = [trial for case in cases for trial in case.trials]
    bits.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    bits.set_title("change of val, %", loc="left")
    for case in cases:
        family, dial = dial_of(study, case.name)
        if dial and (found := sample(percents(trials, family, case.name))):
            _point(bits, study, dials.index(dial), family, found)
    updates.set_yticks(range(len(dials)), dials)
    updates.set_ylim(len(dials) - 0.5, -0.5)
    style.add_legend(fig, updates, extra=family_keys(study.families))
    return fig


def _gradients(ax: Axes, study: Study, cases: Sequence[Case], dials: Sequence[str]) -> None:
    for case in cases:
        family, dial = dial_of(study, case.name)
        by_tokens: dict[int, list[float]] = {}
        for trial in case.trials:
            for tokens, value in over_training(trial):
                by_tokens.setdefault(tokens, []).append(value)
        first = family == study.families[0]
        colours = (*COLOURS, style.GREY)
        colour = colours[dials.index(dial or OWN) % len(colours)]
        ax.plot(
            list(by_tokens), [sum(found) / len(found) for found in by_tokens.values()], color=colour, linewidth=1.3,
            linestyle=STRAIGHT if first else DASHED, label=style.words(dial or OWN) if first else None,
        )  # fmt: skip
        floors = [value for trial in case.trials if (value := floor(trial)) is not None]
        if floors and not dial:
            ax.axhline(sum(floors) / len(floors), color=style.BLACK, linewidth=1, linestyle=DOTTED)
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(style.MAGNITUDE)
    ax.set_title("the routers' gradient, RMS", loc="left")
    ax.set_xlabel("training tokens")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handlelength=1.6)


def _forest(
    ax: Axes, study: Study, cases: Sequence[Case], dials: Sequence[str], value: Callable[[Trial], float | None], title: str
) -> None:
    for case in cases:
        family, dial = dial_of(study, case.name)
        if found := [v for trial in case.trials if (v := value(trial)) is not None]:
            _point(ax, study, dials.index(dial or OWN), family, Sample.of(found))
    ax.set_title(title, loc="left")
    ax.tick_params(axis="y", length=0)


def _point(ax: Axes, study: Study, row: int, family: str, found: Sample) -> None:
    at = study.families.index(family)
    with_interval(ax, row + APART * (at - 0.5), found, at, sideways=True)
