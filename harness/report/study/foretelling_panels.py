"""Damage against what might foretell it: a dot a pair, the correlations side by side, and what each age costs."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.plan.study import Study
from harness.record.damaged import at_once
from harness.report import style
from harness.report.study.foretelling import (
    EXCHANGED,
    FIRST,
    OUTCOMES,
    REMOVED,
    ROUTERS,
    SHUFFLED,
    Foretold,
    foretold,
    pairs_of,
)
from harness.report.study.frame import Case, new_figure

HEIGHT_IN = 5.6
NEAR = 0.01  # bits: below, the axis of costs is linear
AGAINST = {
    "sets": "share of sets that moved",
    "load": "divergence of loads, nats",
    "weights": "distance of weights",
}
APART = 0.3


def draw_foretelling(study: Study, cases: Sequence[Case]) -> Figure:
    notes = [
        "costs are bits a token more, on windows of val",
        "above: a dot a router of an earlier checkpoint in one layer of the last model; lines are the mean of seeds, of the "
        "routers of all layers at once, at step 0 that of the untrained model",
        "below: rank correlation of cost and figure, within runs, bars are 95% intervals of a bootstrap over runs and "
        "checkpoints; hollow: among pairs of one checkpoint, or of one share of experts",
    ]
    fig = new_figure(study, cases, HEIGHT_IN, *notes)
    above, below = fig.subfigures(2, 1, height_ratios=(1, 1.1))
    first, *others = above.subplots(1, 4)
    _by_step(first, cases)
    for ax, (name, label) in zip(others, AGAINST.items()):
        _pairs(ax, cases, name)
        ax.set_xlabel(label)
        ax.tick_params(labelleft=False)
    by_case = {case.name: case.trials for case in cases}
    for ax, outcome in zip(below.subplots(1, len(OUTCOMES)), OUTCOMES):
        _forest(ax, outcome, foretold(by_case, outcome))
    style.add_legend(fig, first)
    return fig


def _by_step(ax: Axes, cases: Sequence[Case]) -> None:
    for case in cases:
        by_step: dict[int, list[float]] = {}
        for trial in case.trials:
            for row in at_once(trial.damage.transplants) if trial.damage else ():
                if row.nats:
                    by_step.setdefault(row.step, []).append(row.nats[0] / math.log(2))
        ax.plot(
            list(by_step), [sum(found) / len(found) for found in by_step.values()], color=case.colour, linewidth=1.2,
            label=style.words(case.name), markevery=[], **style.dot(case.colour, case.marker, True),
        )  # fmt: skip
        for step, found in by_step.items():
            ax.plot(
                [step] * len(found), found, linestyle="none", **style.dot(case.colour, case.marker, True) | {"markersize": 4}
            )
    _costs(ax)
    ax.set_title("all layers' routers", loc="left")
    ax.set_xlabel("step that they are of")
    ax.set_ylabel("bits a token more")


def _pairs(ax: Axes, cases: Sequence[Case], name: str) -> None:
    for case in cases:
        for trial in case.trials:
            if (pairs := pairs_of(trial, ROUTERS)) is not None:
                x = pairs.figures[pairs.names.index(name)]
                y = [cost / math.log(2) for cost in pairs.cost]
                ax.plot(x, y, linestyle="none", alpha=0.7, **style.dot(case.colour, case.marker, True) | {"markersize": 3.5})
    _costs(ax)
    if name == "load":
        ax.set_xscale("log")
    ax.set_title("one layer's router", loc="left")


def _costs(ax: Axes) -> None:
    ax.set_yscale("symlog", linthresh=NEAR)
    ax.set_ylim(-NEAR, 10)
    ax.set_yticks([0, 0.01, 0.1, 1, 10], ["0", "0.01", "0.1", "1", "10"])
    ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1)


def _forest(ax: Axes, outcome: str, found: Foretold | None) -> None:
    names = list(found.over) if found else []
    for row, name in enumerate(names):
        colour = style.GREY if name == SHUFFLED else style.BLUE if name == FIRST[outcome] else style.BLACK
        for at, (one, whole) in enumerate(((found.over[name], True), (found.within[name], False))):
            y = row + APART * (at - 0.5)
            ax.hlines(y, one.low, one.high, color=colour, linewidth=1.3)
            ax.plot([one.value], [y], **style.dot(colour, "o", whole) | {"markersize": 5})
    ax.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    ax.set_xlim(-1.05, 1.05)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    said = {ROUTERS: "earlier routers", REMOVED: "experts removed", EXCHANGED: "experts exchanged"}[outcome]
    ax.set_title(said if found else f"{said}: nobody has", loc="left")
    ax.set_xlabel("rank correlation with the cost")
