"""`tasks`: a panel a task, a row a dial, a dot a seed; families side by side, and lines for what is known without a network."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.plan.study import Study
from harness.report import style
from harness.report.study.families import dials
from harness.report.study.frame import COLOURS, MARKERS, Case, family_keys, new_figure
from harness.report.study.tasks import measures, results, values
from harness.report.study.trials import Trial
from harness.report.task_scores import MEASURES, TaskResult

COLUMNS, ROW_IN, TITLE_IN = 4, 0.17, 0.55
APART = 0.3  # of a row: from one family's dots to the next one's
LINES = {"chance": (style.GREY, ":"), "best counted n-gram": (style.BLACK, (0, (4, 2)))}


def draw_tasks(study: Study, cases: Sequence[Case]) -> Figure:
    trials = [trial for case in cases for trial in case.trials]
    tasks, rows = measures(trials), _rows(study)
    note = "a dot a seed, a bar their mean, over training's difficulties; of KL (nats per answer) less is better"
    lines = -(-len(tasks) // COLUMNS)
    height = lines * (ROW_IN * len(rows) + TITLE_IN) + style.LEGEND_IN
    fig = new_figure(study, cases, height, note if tasks else "no run has scores of tasks")
    if not tasks:
        return fig
    axes = fig.subplots(lines, COLUMNS, sharey=True, squeeze=False).flatten()
    for ax in axes[len(tasks) :]:
        ax.set_visible(False)
    known = {name: task for trial in trials for name, task in results(trial).items()}
    families = dials(study)
    by_case = {case.name: case.trials for case in cases}
    for ax, (name, measure) in zip(axes, tasks.items()):
        ax.set_title(style.words(f"{name}: {MEASURES[measure]}"), loc="left")
        _known_without(ax, known[name])
        for at, of_family in enumerate(families.values()):
            _dots(ax, name, at, len(families), rows, _cases(of_family), by_case)
        _scale(ax, measure)
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
    keys = family_keys(list(families))
    keys += [Line2D([], [], color=colour, linestyle=dashes, label=label) for label, (colour, dashes) in LINES.items()]
    style.add_legend(fig, axes[0], extra=keys)
    return fig


def _rows(study: Study) -> list[str]:
    """What the rows are called: the case that others are compared with, and each dial."""
    (base, cases), *_ = dials(study).values()
    return ["as it is" if study.families else base, *cases]


def _cases(of_family: tuple[str, dict[str, str]]) -> list[str]:
    base, by_dial = of_family
    return [base, *by_dial.values()]


def _scale(ax: Axes, measure: str) -> None:
    """Shares from 0 to 1, KL from the optimum, 0; once all is drawn."""
    low, high = (0.0, 1.0) if measure == "exact_match" else (0.0, ax.dataLim.x1)
    ax.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    ax.xaxis.set_major_locator(MaxNLocator(3))


def _known_without(ax: Axes, task: TaskResult) -> None:
    """Chance, and the best of the counted n-grams, each over training's difficulties; the best a model can do is 1, or KL 0."""
    trained = [str(row.difficulty) for row in task.rows if row.trained]
    levels: dict[str, list[float]] = {}
    for line in task.lines:
        known = [line.levels[d] for d in trained if d in line.levels]
        if line.measure == task.measure and known and line.name != "Bayes optimum":
            kind = line.name if line.name in LINES else "best counted n-gram"
            levels.setdefault(kind, []).append(sum(known) / len(known))
    for kind, (colour, dashes) in LINES.items():
        if kind in levels:
            best = max(levels[kind]) if task.measure == "exact_match" else min(levels[kind])
            ax.axvline(best, color=colour, linestyle=dashes, linewidth=1, zorder=1)


def _dots(
    ax: Axes, task: str, at: int, families: int, rows: Sequence[str], cases: Sequence[str],
    by_case: Mapping[str, Sequence[Trial]],
) -> None:  # fmt: skip
    shift = APART * (at - (families - 1) / 2)
    for row, case in zip(range(len(rows)), cases):
        found = [values(trial)[task] for trial in by_case.get(case, ()) if task in values(trial)]
        if found:
            mean, place = sum(found) / len(found), row + shift
            ax.plot([mean, mean], [place - 0.2, place + 0.2], color=style.GREY, linewidth=1.5, zorder=2)
            look = style.dot(COLOURS[at], MARKERS[at], True) | {"markersize": 4, "markeredgewidth": 0.3}
            ax.plot(found, [place] * len(found), linestyle="none", zorder=3, **look)
