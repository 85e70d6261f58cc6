"""Specialisation of experts for a task against the score on it, a panel a task and a dot a run; and what experts tell of the
task by layer."""

from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.plan.study import Study
from harness.report import style
from harness.report.rank_correlation import Correlation
from harness.report.study.frame import Case, new_figure
from harness.report.study.routing_table import LOWER, PREDICTS, Both, correlations, measure_of, points, verdicts
from harness.report.study.trials import Trial

COLUMNS, ROW_IN = 3, 2.15
DOTTED = (0, (1.5, 1.5))


def draw_routing(study: Study, cases: Sequence[Case]) -> Figure:
    found = [(case, some) for case in cases if (some := [trial for trial in case.trials if trial.routing])]
    tasks = correlations([some for _, some in found]) if found else {}
    rows = -(-(len(tasks) + 1) // COLUMNS)
    notes = [
        "a dot a seed",
        "specialisation: KL of the experts chosen for a task's tokens from those chosen for all tokens, less that of shuffled "
        "tasks, mean over MoE layers",
        "score: over training's difficulties",
        "rank correlation (Spearman) over all runs, and within cases; * the interval excludes 0",
    ]
    fig = new_figure(study, cases, ROW_IN * rows + 0.25, *notes)
    first, *panels = fig.subplots(rows, COLUMNS, squeeze=False).flat
    _layers(first, found)
    for ax, (task, both) in zip(panels, tasks.items()):
        _task(ax, task, both, found)
    for ax in panels[len(tasks) :]:
        ax.set_visible(False)
    for ax in panels[max(0, len(tasks) - COLUMNS) : len(tasks)]:
        ax.set_xlabel("specialisation, nats")
    if found:
        style.add_legend(fig, first)
    return fig


def _layers(ax: Axes, found: Sequence[tuple[Case, list[Trial]]]) -> None:
    """By layer: a dot a seed, a line through their means, the control dotted."""
    for case, trials in found:
        told: dict[int, list[tuple[float, float]]] = {}
        for trial in trials:
            for layer in trial.routing.layers:
                told.setdefault(layer.layer, []).append((layer.told, layer.shuffled))
        named = {"label": style.words(case.name), "linewidth": 1.2, "markevery": [], **_dot(case)}  # the legend has its mark
        for at, look in ((0, named), (1, {"linewidth": 1, "linestyle": DOTTED})):
            ax.plot(list(told), [fmean(pair[at] for pair in some) for some in told.values()], color=case.colour, **look)
        for layer, some in told.items():
            ax.plot([layer] * len(some), [value for value, _ in some], linestyle="none", **_dot(case))
    ax.set_title("told of the task (dotted: shuffled)" if found else "no run was looked into", loc="left", fontsize=8.5)
    ax.set_xlabel("layer")
    ax.set_ylabel("nats")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _task(ax: Axes, task: str, both: Both, found: Sequence[tuple[Case, list[Trial]]]) -> None:
    for case, trials in found:
        for x, y in points(trials, task):
            ax.plot(x, y, linestyle="none", **_dot(case))
    measure = next((m for _, trials in found for trial in trials if (m := measure_of(trial, task))), None)
    over, within = map(_figure, both, verdicts(both))
    ax.set_title(f"{style.words(task)}: {over}, within {within}", loc="left", fontsize=8.5)
    ax.set_ylabel({"exact_match": "exact match", "kl": "minus KL, nats"}.get(measure, "not scored"))
    ax.margins(0.1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))


def _figure(found: Correlation | None, verdict: str) -> str:
    return "-" if found is None else f"{found.value:+.2f}" + ("*" if verdict in (PREDICTS, LOWER) else "")


def _dot(case: Case) -> dict[str, object]:
    return style.dot(case.colour, case.marker, True) | {"markersize": 5.5}
