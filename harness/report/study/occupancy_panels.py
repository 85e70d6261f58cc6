"""Sparsity: the loads as CCDFs, a panel a number of experts; and against E how many are used, what is scored, and what the
coldest half is worth."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from harness.plan.study import Study
from harness.report import style
from harness.report.study.frame import COLOURS, MARKERS, Case, measure_of, new_figure
from harness.report.study.occupancy import COLD, cost, effective, of_arms
from harness.report.study.trials import Trial, val_bpb

HEIGHT_IN = 5.2
LOWEST = 2.0**-6  # loads below are drawn there
Arms = dict[str, dict[int, list[Trial]]]


def draw_occupancy(study: Study, cases: Sequence[Case]) -> Figure:
    trials = [trial for case in cases for trial in case.trials]
    arms, dense = of_arms(trials), [trial for trial in trials if not trial.experts]
    notes = [
        "above: the share of experts with at least that load over all of val, all MoE layers and seeds; 1/64 of the even share "
        "and less is drawn in one place",
        "below: a dot a seed, lines through the means; N_eff = E / (1 + CV^2), the mean over MoE layers (dotted: all, and "
        "top-K)",
        f"bits: {measure_of(cases)}; removed: the coldest half of each layer's experts is never chosen, exchanged: they stand "
        "in each other's place, bits a token more",
    ]
    fig = new_figure(study, cases, HEIGHT_IN, *notes)
    above, below = fig.subfigures(2, 1, height_ratios=(1, 1.1))
    sizes = sorted({experts for of_arm in arms.values() for experts in of_arm})
    tails = above.subplots(1, max(1, len(sizes)), sharey=True, squeeze=False)[0]
    for ax, experts in zip(tails, sizes):
        _tail(ax, arms, experts)
    tails[0].set_ylabel("of all experts")
    used, bits, removed, exchanged = below.subplots(1, 4)
    _against(used, arms, sizes, effective)
    _all_of_them(used, arms, sizes)
    used.set_title("N_eff", loc="left")
    _against(bits, arms, sizes, val_bpb)
    if dense:
        found = [value for trial in dense if (value := val_bpb(trial)) is not None]
        bits.axhline(sum(found) / len(found), color=style.BLACK, linewidth=1, linestyle=(0, (4, 2)))
        bits.set_title("bits of val (dashed: dense)", loc="left", fontsize=8.5)
    else:
        bits.set_title("bits of val", loc="left", fontsize=8.5)
    for ax, what in ((removed, "removed"), (exchanged, "exchanged")):
        _against(ax, arms, sizes, lambda trial, what=what: cost(trial, what, COLD))
        ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1)
        ax.set_title(f"cold half {what}", loc="left", fontsize=8.5)
    if arms:
        style.add_legend(fig, tails[-1])
    return fig


def _look(arms: Arms, arm: str) -> tuple[str, str]:
    at = list(arms).index(arm)
    return COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)]


def _tail(ax: Axes, arms: Arms, experts: int) -> None:
    for arm, sizes in arms.items():
        loads = [trial.load.relative.ravel() for trial in sizes.get(experts, [])]
        load = np.sort(np.concatenate(loads)) if loads else np.array([])
        alive, share = load[load > 0], 1 - np.arange(len(load)) / max(len(load), 1)
        colour, _ = _look(arms, arm)
        ax.plot(np.maximum(alive, LOWEST), share[len(load) - len(alive) :], color=colour, linewidth=1.2, label=style.words(arm))
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_ylim(0.5 / experts, 1.4)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"1/{1 / value:g}" if value < 1 else f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.axvline(1, color=style.GREY, linewidth=1, linestyle=(0, (4, 2)))
    ax.set_title(f"{experts:,} experts", loc="left")
    ax.set_xlabel("load / even share")


def _against(ax: Axes, arms: Arms, sizes: Sequence[int], value: Callable[[Trial], float | None]) -> None:
    for arm, of_arm in arms.items():
        colour, marker = _look(arms, arm)
        found = {experts: [v for trial in some if (v := value(trial)) is not None] for experts, some in of_arm.items()}
        found = {experts: values for experts, values in found.items() if values}
        ax.plot(list(found), [sum(values) / len(values) for values in found.values()], color=colour, linewidth=1.1, alpha=0.7)
        for experts, values in found.items():
            ax.plot([experts] * len(values), values, linestyle="none", **style.dot(colour, marker, True) | {"markersize": 4})
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [f"{experts:,}" for experts in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("experts")


def _all_of_them(ax: Axes, arms: Arms, sizes: Sequence[int]) -> None:
    k = next((trial.top_k for of_arm in arms.values() for some in of_arm.values() for trial in some), 1)
    ax.plot(sizes, sizes, color=style.GREY, linewidth=1, linestyle=(0, (1, 1.5)))
    ax.plot(sizes, [k] * len(sizes), color=style.GREY, linewidth=1, linestyle=(0, (1, 1.5)))
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
