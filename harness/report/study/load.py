"""How many experts get how much, case by case: histograms of the relative load, its complementary cumulative curve, and bits
of the slice by tokens beside them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator, PercentFormatter

from harness.plan.study import Study
from harness.report import style
from harness.report.study.frame import Case, draw_curves, line, new_figure, tokens_axis

LOWEST = 2.0**-5  # relative load of the leftmost bin: what gets less is counted there; experts without a row stand apart
DEAD_AT = LOWEST / 3
STEP = 2.0**0.5  # between centres of bins, the even share being one of them


def draw_load(study: Study, cases: Sequence[Case]) -> Figure:
    notes = [
        "load: rows an expert got over the even share, all MoE layers and seeds, over all that was scored at the end (of a "
        "stopped run over its last health window)",
        "1/32 of the even share and less is drawn in one place",
    ]
    fig = new_figure(study, cases, max(4.3, 0.95 * len(cases) + 0.5), *notes)
    left, right = fig.subfigures(1, 2, width_ratios=(1, 1.05))
    loads = [np.concatenate([trial.load.relative.ravel() for trial in case.trials]) for case in cases]
    highest = max(2.0, max(load.max() for load in loads)) * 1.15
    panels = left.subplots(len(cases), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for ax, case, load in zip(panels, cases, loads):
        _histogram(ax, case, load, highest)
    panels[-1].set_xlabel("load / even share (log scale)")
    tail, curves = right.subplots(2, 1)
    _tail(tail, cases, loads, highest)
    draw_curves(curves, cases)
    tokens_axis(curves, cases)
    return fig


def _histogram(ax: Axes, case: Case, load: np.ndarray, highest: float) -> None:
    count = int(np.ceil(np.log(highest / LOWEST) / np.log(STEP))) + 1
    bins = LOWEST * STEP ** (np.arange(count + 1) - 0.5)
    alive = np.clip(load[load > 0], bins[0] * 1.0001, bins[-1] * 0.9999)
    share = np.histogram(alive, bins)[0] / len(load)
    ax.bar(bins[:-1], share, width=np.diff(bins), align="edge", color=case.colour, edgecolor="white", linewidth=0.4)
    dead = float((load == 0).mean())
    if dead:
        left, right = DEAD_AT / STEP**0.5, DEAD_AT * STEP**0.5
        ax.bar(
            left, dead, width=right - left, align="edge", color="white", edgecolor=style.WARNING, hatch="////", linewidth=0.9
        )
    ax.axvline(1, color=style.GREY, linewidth=1, linestyle=(0, (4, 2)))
    _load_axis(ax, DEAD_AT / STEP, highest)
    ax.set_ylim(0, 1.05)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_yticks([0, 0.5, 1])
    health = [trial.health for trial in case.trials]
    sick = max(h.dead for h in health)
    text = f"{sick} of {health[0].experts} dead, worst entropy {min(h.worst_entropy_ratio for h in health):.3f}"
    ax.set_title(f"{case.name}: {text}", loc="left", fontsize=8.5, color=style.WARNING if sick else "black")
    if ax.get_subplotspec().is_first_row():
        ax.set_ylabel("of experts")


def _tail(ax: Axes, cases: Sequence[Case], loads: Sequence[np.ndarray], highest: float) -> None:
    """Share of experts with at least x times the even load; both axes are logarithmic, and dead experts lower the left end."""
    for case, load in zip(cases, loads):
        alive = np.sort(load[load > 0])
        share = 1 - (np.arange(len(alive)) + len(load) - len(alive)) / len(load)
        line(ax, case, np.maximum(alive, LOWEST), share, first=True, every=max(1, len(alive) // 6))
    ax.set_yscale("log")
    ax.set_ylim(0.8 / max(map(len, loads)), 1.4)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    ax.axvline(1, color=style.GREY, linewidth=1, linestyle=(0, (4, 2)))
    _load_axis(ax, LOWEST / STEP, highest)
    ax.set_title("experts with at least that load, of all", loc="left")
    ax.legend(loc="lower left", fontsize=8, handlelength=1.6, borderpad=0.2, labelspacing=0.3)


def _load_axis(ax: Axes, low: float, high: float) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xlim(low, high)
    powers = [power for power in range(-5, 12, 2) if 2.0**power <= high]
    labels = {2.0**power: f"1/{2**-power}" if power < 0 else f"{2**power}" for power in powers}
    if low < DEAD_AT:
        labels[DEAD_AT] = "dead"
    ax.set_xticks(list(labels), list(labels.values()))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
