"""`tasks.png`: what runs know of their tasks, a panel a task over difficulty, beside what is known without a network."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.errors import UserError
from harness.interval import Z
from harness.record.evaluations import Evaluation, TaskScore
from harness.report import style
from harness.report.curves import Level, label_levels
from harness.report.task_scores import MEASURES, TaskResult, by_task

COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.VERMILLION)
COLUMNS, PANEL_IN = 2, 2.1
SHIFT = 0.16  # of the way between two difficulties, from one run's marks to the next one's
LEAST_KL = 1e-3  # nats: where the scale of KL begins at the latest
LABEL_GAP = 0.092  # of a panel's height: one line of text
LINES = {"chance": (style.GREY, ":"), "Bayes optimum": (style.GREEN, "-")}  # others: counted n-grams
COUNTED = ("#6A6A6A", (0, (4, 2)))


def draw_tasks(results: Sequence[tuple[str, Evaluation]], path: Path) -> Path:
    """`results`: (name, scores of tasks) of 1 to 5 runs, all on the same instances.

    Raises:
        UserError: there are too many runs, or they were asked other instances.
    """
    asked = {found.sha256 for _, found in results}
    if len(asked) > 1 or len(results) > len(COLOURS):
        raise UserError(
            f"scores of {len(results)} runs on {len(asked)} sets of instances cannot share a figure",
            f"draw at most {len(COLOURS)}, scored on the same instances",
        )
    known = [by_task(found) for _, found in results]
    rows = -(-len(known[0]) // COLUMNS)
    with style.styled():
        partial = results[0][1].partial or ""
        title = f"{results[0][0]}: tasks" if len(results) == 1 else "tasks"
        fig = style.plain_figure(title, rows * PANEL_IN + 0.3, _caption(results[0][1]), partial)
        panels = fig.subplots(rows, COLUMNS, squeeze=False).flatten()
        for panel in panels[len(known[0]) :]:
            panel.set_visible(False)
        for panel, *of_runs in zip(panels, *known):
            _panel(panel, of_runs)
        style.add_legend(fig, panels[0], columns=4, extra=_keys([name for name, _ in results]))
        for panel, task in zip(panels, known[0]):
            _label(panel, task)
        return style.save(fig, path)


def _panel(ax: Axes, of_runs: Sequence[TaskResult]) -> None:
    task = of_runs[0]
    unit = " (nats per answer)" if task.measure == "kl" else ""
    ax.set_title(style.words(f"{task.name}: {MEASURES[task.measure]} by difficulty{unit}"), loc="left")
    floor = _scale(ax, of_runs)
    for at, row in enumerate(task.rows):
        if not row.trained:
            ax.axvspan(at - 0.5, at + 0.5, color="#F1F1F1", zorder=0, linewidth=0)
    for name, levels in _lines(task).items():
        colour, dashes = LINES.get(name, COUNTED)
        drawn = [(at, max(level, floor)) for at, level in enumerate(levels) if not math.isnan(level)]
        if len(drawn) == 1:  # of one difficulty alone
            ((at, level),) = drawn
            drawn = [(at - 0.4, level), (at + 0.4, level)]
        ax.plot(*zip(*drawn), color=colour, linestyle=dashes, linewidth=0.9, zorder=1.5)
    for number, one in enumerate(of_runs):
        _marks(ax, one, COLOURS[number], SHIFT * (number - (len(of_runs) - 1) / 2), floor)
    ax.set_xticks(range(len(task.rows)), [str(row.difficulty) for row in task.rows])
    ax.set_xlim(-0.5, len(task.rows) - 0.5)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="x", visible=False)


def _lines(task: TaskResult) -> dict[str, list[float]]:
    """By name the level at each difficulty, NaN where there is none: of lines of the task's measure."""
    return {
        line.name: [line.levels.get(str(row.difficulty), math.nan) for row in task.rows]
        for line in task.lines
        if line.measure == task.measure and line.levels.keys() & {str(row.difficulty) for row in task.rows}
    }


def _interval(row: TaskScore, measure: str) -> tuple[float, float]:
    return row.interval if measure == "exact_match" else (row.kl - Z * row.kl_error, row.kl + Z * row.kl_error)


def _scale(ax: Axes, of_runs: Sequence[TaskResult]) -> float:
    """Sets the y axis, and returns the least level that it shows: shares from 0 to 1, KL by powers of ten."""
    if of_runs[0].measure == "exact_match":
        ax.set_ylim(-0.04, 1.04)
        return 0.0
    rows = [row for one in of_runs for row in one.rows]
    levels = [level for levels in _lines(of_runs[0]).values() for level in levels if level > 0]  # neither NaN nor the optimum
    values = [max(value, LEAST_KL) for value in (*(row.kl for row in rows), *levels)]
    ax.set_yscale("log")
    ax.set_ylim(min(values) / 1.6, max(*values, *(_interval(row, "kl")[1] for row in rows)) * 1.6)
    return min(values) / 1.4


def _marks(ax: Axes, task: TaskResult, colour: str, shift: float, floor: float) -> None:
    """Filled within training's difficulties, hollow beyond."""
    places = [at + shift for at in range(len(task.rows))]
    values = [max(getattr(row, task.measure), floor) for row in task.rows]
    ax.plot(places, values, color=colour, linewidth=0.8, alpha=0.5, zorder=3)
    for place, value, row in zip(places, values, task.rows):
        ends = [max(end, floor) for end in _interval(row, task.measure)]
        ax.plot([place, place], ends, color=colour, linewidth=1.2, solid_capstyle="butt", zorder=3)
        ax.plot(place, value, zorder=4, **style.dot(colour, "o", row.trained) | {"markersize": 5})


def _label(ax: Axes, task: TaskResult) -> None:
    """Names the lines right of the panel, at the level that they end with; once its scale is set. Of counted shares the best
    alone: they lie close together."""
    to_height, low = ax.transScale + ax.transLimits, ax.get_ylim()[0]
    ends = {name: [value for value in values if not math.isnan(value)][-1] for name, values in _lines(task).items()}
    counted = {name: value for name, value in ends.items() if name not in LINES}
    if task.measure == "exact_match" and counted:
        best = max(counted, key=counted.get)
        ends = {name: value for name, value in ends.items() if name in LINES or name == best}
    label_levels(ax, [
        Level(f"{name} {value:.3g}", float(to_height.transform((0, max(value, low)))[1]), name == "Bayes optimum")
        for name, value in _joined(ends).items()
    ], LABEL_GAP, 7.5)  # fmt: skip


def _joined(ends: dict[str, float]) -> dict[str, float]:
    """Counted n-grams of neighbouring orders share a name where they end at one level, to two digits: "4- to 9-gram"."""
    joined: dict[str, float] = {}
    alike: list[str] = []
    for name, value in ends.items():
        same = alike and f"{ends[alike[0]]:.2g}" == f"{value:.2g}"
        if name in LINES or not same:
            alike = [] if name in LINES else [name]
        else:
            del joined[_span(alike)]
            alike.append(name)
        joined[_span(alike) if alike else name] = ends[alike[0]] if alike else value
    return joined


def _span(names: Sequence[str]) -> str:
    first, last = names[0], names[-1]
    return first if first == last else f"{first.removesuffix('gram')} to {last}"


def _keys(names: Sequence[str]) -> list[Line2D]:
    """What the legend shows."""
    runs = [Line2D([], [], color=COLOURS[i], marker="o", label=style.words(name)) for i, name in enumerate(names)]
    hollow = Line2D([], [], linestyle="none", label="beyond training", **style.dot(style.BLACK, "o", False))
    counted = Line2D([], [], color=COUNTED[0], linestyle=COUNTED[1], linewidth=0.9, label="counted n-grams")
    return [*runs, hollow, *(_key(name) for name in LINES), counted]


def _key(name: str) -> Line2D:
    colour, dashes = LINES[name]
    return Line2D([], [], color=colour, linestyle=dashes, linewidth=0.9, label=name)


def _caption(found: Evaluation) -> str:
    n = sorted({row.n for row in found.scores})
    said = [
        f"Protocol {found.protocol}, {' or '.join(f'{size:,}' for size in n)} test instances a difficulty, none of them in "
        "training; exact match is of whole answers",
        "bars: 95% intervals over instances (Wilson's of shares), the run fixed; shaded: difficulties beyond training's",
        "lines: what is known without a network; of exact matches chance is that of training's hardest difficulty, and of "
        "counted n-grams the best is named",
    ]
    if any(task.measure == "kl" for task in by_task(found)):
        said.append("KL is from the exact next-symbol distribution to the model's over the whole vocabulary; the Bayes optimum "
                    f"is 0, and what is below {LEAST_KL:g} is at the end of the scale")  # fmt: skip
    return "; ".join([*said, *(f"left out: {why}" for why in found.left_out or ())]) + "."
