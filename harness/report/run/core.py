"""`core.png`: CORE and what it is the mean of, task by task, with bootstrap intervals, beside published figures.

Reads what a record holds of it, or what `evaluate` has just found.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.errors import UserError
from harness.record.schema import Evaluation
from harness.report import style
from harness.report.anchors import anchors_for

COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.VERMILLION)
ROW_IN = 0.185  # height of a line of the lower panel
FIGURE_SPACE = "\u2007"  # as wide as a digit
SPREAD = 0.62  # of a line, over which the models' marks are set apart


def draw_core(results: Sequence[tuple[str, Evaluation]], references: Sequence[dict[str, Any]], path: Path) -> Path:
    """`results`: (name, CORE result) of 1 to 5 models, all on the same tasks. `references`: {"label", "core_v1"} of published
    figures, with "tasks" {task label: centered accuracy} where a record of them exists; they must be of baselines v1.

    Raises:
        UserError: there are too many models, or they differ in tasks or in how many examples were scored.
    """
    tasks = results[0][1].tasks
    scored = {tuple((row.label, row.n, row.baseline_v1) for row in result.tasks) for _, result in results}
    if len(scored) > 1 or len(results) > len(COLOURS):
        raise UserError(
            f"{len(results)} CORE results of {len(scored)} sets of examples cannot share a figure",
            f"draw at most {len(COLOURS)}, scored on the same examples",
        )
    above_in = ROW_IN * (len(results) + len(references)) + 0.55
    below_in = ROW_IN * len(tasks) + 0.75
    with style.styled():
        fig = style.plain_figure("CORE", above_in + below_in, _caption(results, references), results[0][1].partial or "")
        above, below = fig.subplots(2, 1, height_ratios=[above_in, below_in])
        _means(above, results, references)
        _tasks(below, results, references)
        if len(results) > 1 or any("tasks" in reference for reference in references):
            style.add_legend(fig, below, columns=3)
        return style.save(fig, path)


def published() -> list[dict[str, Any]]:
    """The GPT-2 family as `references`."""
    family = [anchor for anchor in anchors_for("core-v1", "core") if anchor.id.startswith("gpt2")]
    return [{"label": anchor.id.removesuffix("-core"), "core_v1": anchor.value} for anchor in family]


def _means(ax: Axes, results: Sequence[tuple[str, Evaluation]], references: Sequence[dict[str, Any]]) -> None:
    """A line a model: CORE with its interval and its number."""
    ax.set_title("CORE, mean over tasks of centered accuracy", loc="left")
    lines = [(name, result.core_v1, result.interval_v1, COLOURS[i]) for i, (name, result) in enumerate(results)]
    lines += [(reference["label"], reference["core_v1"], None, style.GREY) for reference in references]
    for y, (_, value, interval, colour) in enumerate(lines):
        if interval is not None:
            ax.plot(interval, [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
        ax.plot(value, y, marker="o" if interval is not None else "D", markersize=5.5 if interval is not None else 4.5,
                color=colour, markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
        edge = value if interval is None else max(value, interval[1])
        ax.annotate(f"{value:.4f}", (edge, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
    _lay_out(ax, [style.words(name) for name, *_ in lines])
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.08 * (high - low))  # room for the last number


def _tasks(ax: Axes, results: Sequence[tuple[str, Evaluation]], references: Sequence[dict[str, Any]]) -> None:
    ax.set_title("by task: label, shots, examples; 0 is guessing", loc="left")
    series = [(name, {row.label: (row.centered_v1, row.interval) for row in result.tasks}, COLOURS[i], "o")
              for i, (name, result) in enumerate(results)]  # fmt: skip
    series += [(one["label"], {label: (value, None) for label, value in one["tasks"].items()}, style.GREY, "D")
               for one in references if "tasks" in one]  # fmt: skip
    tasks = results[0][1].tasks
    for number, (name, values, colour, marker) in enumerate(series):
        shift = SPREAD * ((number + 0.5) / len(series) - 0.5)
        for y, row in enumerate(tasks):
            if row.label not in values:
                continue
            value, interval = values[row.label]
            if interval is not None:
                ax.plot(interval, [y + shift] * 2, color=colour, linewidth=1.2, solid_capstyle="butt")
            ax.plot(value, y + shift, marker=marker, markersize=4, color=colour, markeredgecolor="white", markeredgewidth=0.4)
        ax.plot([], [], marker=marker, linestyle="none", markersize=5, color=colour, label=style.words(name))
    _lay_out(ax, [style.words(row.label) + f"{row.shots:4}{row.n:7}".replace(" ", FIGURE_SPACE) for row in tasks])
    ax.set_xlabel("centered accuracy, (accuracy - guessing) / (1 - guessing)")


def _lay_out(ax: Axes, names: Sequence[str]) -> None:
    """Names down the side, the first on top; zero marked."""
    ax.axvline(0, color=style.BLACK, linewidth=0.8)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    for y in range(1, len(names), 2):
        ax.axhspan(y - 0.5, y + 0.5, color="#F4F4F4", zorder=0, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(8))


def _caption(results: Sequence[tuple[str, Evaluation]], references: Sequence[dict[str, Any]]) -> str:
    """The protocol, whose baselines, what the intervals are, v2 beside v1, and what the references are."""
    second = ", ".join(f"{name} {result.core_v2:.4f}" for name, result in results)
    said = [
        f"DCLM CORE, {len(results[0][1].tasks)} tasks, random baselines v1 (with v2: {second})",
        "bars: 95% bootstrap over examples within tasks, tasks fixed; models are ranked only where a paired bootstrap excludes "
        "zero",
    ]
    if references:
        partial = ", of all examples" if results[0][1].partial else ""
        said.append(f"diamonds: published figures{partial}, without intervals")
        missing = [reference["label"] for reference in references if "tasks" not in reference]
        if missing:
            said.append(f"of {', '.join(missing)} only the mean is on record")
    return "; ".join(said) + "."
