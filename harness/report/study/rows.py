"""Cases side by side, a row each, a dot a seed: `rules` has bits of the slice, evenness of the load and time; `cost`, for dense
lanes too, what each case costs in bits of val against the first."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.plan.study import Study
from harness.report import style
from harness.report.study.frame import Case, measure_of, new_figure
from harness.report.study.table import disturbed
from harness.report.study.trials import Trial, val_bpb, val_percent

ROW_IN = 0.4


def draw_rules(study: Study, cases: Sequence[Case]) -> Figure:
    notes = [
        "a dot a seed, hollow where health stopped it, a bar their mean",
        "load: the worst layer, over all that was scored at the end (of a stopped run over its last health window)",
    ]
    first = next(iter(study.cases))
    rates = [trial.tokens_per_second for trial in cases[0].trials if trial.tokens_per_second] if cases[0].number == 0 else []
    base = sum(rates) / len(rates) if rates else None
    why_not = "the format is emulated" if cases[0].number == 0 else f"there is no run of {first}"
    taken = disturbed([trial for case in cases for trial in case.trials])
    if disturbed(cases[0].trials):
        why_not = f"{first} has no seed whose machine was its own"
    notes.append(f"time: training seconds a token over those of {first}" if base else f"no time: {why_not}")
    notes += [taken] if taken and base else []
    fig = new_figure(study, cases, ROW_IN * len(cases) + 0.85, *notes)
    axes = fig.subplots(1, 4 if base else 3, sharey=True, width_ratios=(1.25, 1, 1, 0.9)[: 4 if base else 3])
    _panel(axes[0], cases, f"{measure_of(cases)}, slice", lambda trial: trial.bpb)
    _panel(axes[1], cases, "worst entropy / ln E", lambda trial: trial.health.worst_entropy_ratio)
    _panel(axes[2], cases, "busiest / even share", lambda trial: trial.health.busiest)
    if base:
        _panel(axes[3], cases, "time a token",
               lambda trial: base / trial.tokens_per_second if trial.tokens_per_second else None)  # fmt: skip
    _name_rows(axes, cases)
    for row, case in enumerate(cases):
        dead = max(trial.health.dead for trial in case.trials)
        if dead:
            _warn(axes[2], f"{dead} dead", 0.97, row + 0.3, "right")
    return fig


def _base(study: Study, cases: Sequence[Case], trial: Trial) -> Sequence[Trial]:
    """The trials that one is compared with: those of its family's own case, or of the first."""
    family = study.family_of(trial.case)
    return next((case.trials for case in cases if case.name == family), cases[0].trials)


def draw_cost(study: Study, cases: Sequence[Case]) -> Figure:
    first, there = next(iter(study.cases)), cases[0].number == 0
    zero = " and ".join(study.families) + " are" if study.families else f"{first} is"
    notes = [f"a dot a seed, a bar their mean; {f'{zero} 0 at every seed' if there else f'no run of {first}'}"]
    fig = new_figure(study, cases, ROW_IN * len(cases) + 0.85, *notes)
    axes = fig.subplots(1, 2 if there else 1, sharey=True, squeeze=False, width_ratios=(1, 1.4)[: 2 if there else 1])[0]
    _panel(axes[0], cases, f"{measure_of(cases)} of val", val_bpb)
    _name_rows(axes, cases)
    if not there:
        return fig
    whom = "its family" if study.families else first
    _panel(axes[1], cases, f"minus {whom} at equal seeds, %", lambda trial: val_percent(trial, _base(study, cases, trial)))
    axes[1].axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    return fig


def _name_rows(axes: Sequence[Axes], cases: Sequence[Case]) -> None:
    """The cases' names on the first axis, from the top, and where runs were stopped."""
    axes[0].set_yticks(range(len(cases)), [case.name for case in cases])
    axes[0].set_ylim(len(cases) - 0.4, -0.6)
    for row, case in enumerate(cases):
        stops = sorted({trial.stop.step for trial in case.trials if trial.stop})
        if stops:
            below = 0.3 if any(trial.record for trial in case.trials) else 0
            _warn(axes[0], f"stopped at step {', '.join(map(str, stops))}", 0.03, row + below, "left")


def _panel(ax: Axes, cases: Sequence[Case], title: str, value: Callable[[Trial], float | None]) -> None:
    """A row a case, from the top: a dot a seed that has a value, a bar their mean."""
    ax.set_title(title, loc="left")
    for row, case in enumerate(cases):
        values = [v for trial in case.trials if (v := value(trial)) is not None]
        if values:
            mean = sum(values) / len(values)
            ax.plot([mean, mean], [row - 0.25, row + 0.25], color=style.GREY, linewidth=2, zorder=2)
        for trial in case.trials:
            if (v := value(trial)) is not None:
                ax.plot([v], [row], zorder=3, **style.dot(case.colour, case.marker, trial.stop is None))
    ax.margins(x=0.15)
    ax.xaxis.set_major_locator(MaxNLocator(4))


def _warn(ax: Axes, text: str, x: float, row: float, ha: str) -> None:
    ax.annotate(
        text, (x, row), xycoords=("axes fraction", "data"), ha=ha, va="center", fontsize=8, color=style.WARNING, zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
    )  # fmt: skip
