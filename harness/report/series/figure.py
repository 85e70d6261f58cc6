"""series.png: valleys of equal FLOPs, bits per byte against each cost, and what the law leaves over."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from harness.plan.study import Study
from harness.record.results import PredictionFile
from harness.report import style
from harness.report.series.bootstrap import Bootstrap
from harness.report.series.isoflop import Valley
from harness.report.series.laws import Laws
from harness.report.series.points import Point
from harness.report.study.frame import COLOURS, MARKERS
from harness.report.study.table import unranked
from harness.report.study.trials import Trial

VALLEYS_IN, COST_IN = 3.0, 2.35
DRAWN = 60  # points of a line
BESIDE = 1.05  # in N, between the residuals of two families
COSTS = {
    "training FLOPs": lambda point: point.flops, "training tokens": lambda point: point.tokens,
    "active parameters": lambda point: point.params["active"], "total parameters": lambda point: point.params["total"],
    "training seconds": lambda point: point.seconds,
}  # fmt: skip


def draw_series(
    study: Study, trials: Sequence[Trial], points: Sequence[Point], laws: Laws, made: PredictionFile | None, path: Path
) -> Path:
    with style.styled():
        return style.save(_figure(study, trials, points, laws, made), path)


def _figure(
    study: Study, trials: Sequence[Trial], points: Sequence[Point], laws: Laws, made: PredictionFile | None
) -> Figure:  # fmt: skip
    families = [name for name in study.series.families if any(point.family == name for point in points)]
    seeds = sorted({point.seed for point in points})
    classes = sorted({trial.hardware_class for trial in trials if trial.hardware_class})
    notes = [
        f"Series {study.name}, {study.title}: lane {study.lane}, seeds {', '.join(map(str, seeds))}; a dot a run with "
        f"its whole schedule; N counted as {laws.convention}; diamonds: minima of the parabolas with 95% intervals, where they "
        "are within the sizes; lines below: through the best size of each budget, or over sizes of a budget (means over seeds)",
        "hollow: ahead of the budgets that are fitted" + (" (bar: 95% interval of what was predicted)" if made else ""),
        f"hardware class {'; '.join(classes) or 'no run finished'}",
    ]
    fig = style.plain_figure(study.question, VALLEYS_IN + 2 * COST_IN, "; ".join(notes) + ".", unranked(trials, 300))
    if not points:
        return fig
    above, below = fig.subfigures(2, 1, height_ratios=[VALLEYS_IN, 2 * COST_IN])
    measure = trials[0].shortly
    first = above.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for number, (ax, family) in enumerate(zip(first, families)):
        _valleys(ax, [point for point in points if point.family == family], laws, study.series.ahead, made, number)
        ax.set_title(f"{family}: valleys of equal FLOPs", loc="left")
        ax.set_xlabel(f"parameters ({laws.convention})")
    first[0].set_ylabel(measure)
    *axes, last = below.subplots(2, 3).flat
    for ax, (name, cost) in zip(axes, COSTS.items(), strict=True):
        ax.set_title(f"{measure} by {name}", loc="left")
        if not any(cost(point) is not None for point in points):
            ax.text(0.5, 0.5, "no run was alone on its machine", transform=ax.transAxes, ha="center", color=style.WARNING)
            continue
        for number, family in enumerate(families):
            _against(ax, [point for point in points if point.family == family], cost, name, study.series.ahead, number)
        ax.set_xscale("log")
        _decades(ax)
    _residuals(last, families, laws)
    style.add_legend(fig, axes[0])
    return fig


def _valleys(ax: Axes, points: Sequence[Point], laws: Laws, ahead: float, made: PredictionFile | None, number: int) -> None:
    """A parabola a budget, darker the more it has, named at its right end."""
    family, budgets = points[0].family, sorted({point.budget for point in points})
    spread = laws.valleys.get(family, {}).get(laws.convention)
    for place, budget in enumerate(budgets):
        some = [point for point in points if point.budget == budget]
        x_P = np.array([point.params[laws.convention] for point in some], float)
        y_P, shade = [point.bpb for point in some], _shade(number, place, len(budgets))
        ax.plot(x_P, y_P, linestyle="none", zorder=3, **style.dot(shade, _marker(number), budget != ahead))
        it = spread.valleys.get(budget) if spread else None
        if isinstance(it, Valley):
            x = np.geomspace(x_P.min(), x_P.max(), DRAWN)
            ax.plot(x, it.at(x), color=shade, linewidth=1.2, zorder=2)
            n = spread.n[budget]
            if n.known:
                ax.plot([n.low, n.high], [it.bpb, it.bpb], color=style.BLACK, linewidth=1, zorder=4)
            ax.plot([it.n], [it.bpb], marker="D", markersize=5, color=style.BLACK, zorder=5)
        last = max(some, key=lambda point: point.params[laws.convention])
        end = (last.params[laws.convention], last.bpb)
        ax.annotate(f"{budget:.2g}".replace("e+", "e"), end, xytext=(6, 0), textcoords="offset points", fontsize=7.5,
                    color="#505050", va="center")  # fmt: skip
    for it in made.made[-1].points if made else ():
        if it.family == family and it.low is not None:
            ax.plot([it.n, it.n], [it.low, it.high], color=style.BLACK, linewidth=3, alpha=0.35, zorder=1)
    ax.set_xscale("log")
    ax.margins(x=0.12)
    _decades(ax)


def _against(
    ax: Axes, points: Sequence[Point], cost: Callable[[Point], float | None], name: str, ahead: float, number: int
) -> None:
    colour, marker = _colour(number), _marker(number)
    timed = [point for point in points if cost(point) is not None]
    for whole in (True, False):
        some = [point for point in timed if (point.budget != ahead) == whole]
        label = points[0].family if whole else None
        ax.plot([cost(p) for p in some], [p.bpb for p in some], linestyle="none", label=label, alpha=0.75, zorder=3,
                **style.dot(colour, marker, whole) | {"markersize": 4.5})  # fmt: skip
    grid = [point for point in timed if point.budget != ahead]
    if name.endswith("parameters"):
        for budget in sorted({point.budget for point in grid}):
            _line(ax, _means([point for point in grid if point.budget == budget], cost), colour)
    else:
        best = [min(_means([p for p in grid if p.budget == budget], cost), key=lambda xy: xy[1])
                for budget in sorted({point.budget for point in grid})]  # fmt: skip
        _line(ax, best, colour)


def _line(ax: Axes, xy: Sequence[tuple[float, float]], colour: str) -> None:
    ax.plot([x for x, _ in xy], [y for _, y in xy], color=colour, linewidth=1.1, alpha=0.7, zorder=2)


def _means(points: Sequence[Point], cost: Callable[[Point], float]) -> list[tuple[float, float]]:
    """(cost, bits) of each size, over its seeds."""
    sizes = sorted({point.size for point in points})
    by_size = [[point for point in points if point.size == size] for size in sizes]
    return [(float(np.mean([cost(p) for p in some])), float(np.mean([p.bpb for p in some]))) for some in by_size]


def _residuals(ax: Axes, families: Sequence[str], laws: Laws) -> None:
    """Each run less the joint law, in % of its bits."""
    ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1)
    for number, family in enumerate(families):
        it = laws.joint.get(family)
        if isinstance(it, Bootstrap):
            x = [point.params[laws.convention] * BESIDE**number for point in it.fit.points]
            ax.plot(x, 100 * np.array(it.fit.residuals), linestyle="none", zorder=3,
                    **style.dot(_colour(number), _marker(number), True) | {"markersize": 4.5})  # fmt: skip
        else:
            ax.text(
                0.03,
                0.95 - 0.1 * number,
                f"no law of {family}",
                transform=ax.transAxes,
                va="top",
                fontsize=8,
                color=style.WARNING,
            )
    ax.set_xscale("log")
    _decades(ax)
    ax.set_title("run less the joint law, % (by N)", loc="left")


def _decades(ax: Axes) -> None:
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    ax.xaxis.set_major_formatter(FuncFormatter(_short))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _short(value: float, _position: object = None) -> str:
    return f"{value:.0e}".replace("e+", "e") if value >= 1e10 else style.magnitude(value)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def _shade(number: int, place: int, count: int) -> tuple[float, float, float]:
    """The family's colour, mixed with white for the smaller budgets."""
    full = np.array(to_rgb(_colour(number)))
    share = 1.0 if count == 1 else 0.4 + 0.6 * place / (count - 1)
    return tuple((1 - share + share * full).tolist())
