"""A dial of the plan against what it does: bits of the slice, size of updates, health of routing."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from harness.plan.study import Study
from harness.report import style
from harness.report.study.frame import Case, measure_of, new_figure
from harness.report.study.trials import Trial

GROUPS = {"expert": (style.VERMILLION, "o"), "dense": (style.BLUE, "s"), "router": (style.GREEN, "^")}


def draw_sweep(study: Study, cases: Sequence[Case]) -> Figure:
    notes = [
        "a point a seed, hollow where health stopped it, lines through the means",
        "size of updates: RMS of the update over RMS of the parameters, median over the second quarter of training",
        "health: worst layer, over all that was scored at the end (of a stopped run over its last health window)",
    ]
    fig = new_figure(study, cases, 4.4, *notes)
    trials = [trial for case in cases for trial in case.trials]
    (bits, moves), (entropy, busiest) = fig.subplots(2, 2, sharex=True)
    _points(bits, study, trials, lambda trial: trial.bpb, style.BLUE, "o")
    bits.set_title(f"{measure_of(cases)} of the slice, at the end", loc="left")
    for name, (colour, marker) in GROUPS.items():
        _points(moves, study, trials, lambda trial, name=name: trial.updates.get(name), colour, marker, name)
    moves.set_yscale("log")
    moves.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    moves.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-")))
    moves.yaxis.set_minor_formatter(NullFormatter())
    moves.set_title("size of a step: update RMS / parameter RMS", loc="left")
    moves.margins(y=0.25)
    moves.legend(loc="upper left", fontsize=8, handlelength=1.6, ncols=3)
    _points(entropy, study, trials, lambda trial: trial.health.worst_entropy_ratio, style.BLUE, "o")
    entropy.set_title("worst entropy of the load / ln E (1 is even)", loc="left")
    _points(busiest, study, trials, lambda trial: trial.health.busiest, style.BLUE, "o")
    busiest.set_title("busiest expert: load / even share", loc="left")
    for ax in (entropy, busiest):
        ax.set_xlabel(study.axis)
        ax.margins(y=0.25)
    _stops(bits, study, trials)
    _dead(entropy, study, trials)
    ticks = sorted({trial.at(study.axis) for trial in trials})
    bits.set_xscale("log")
    bits.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    bits.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    bits.xaxis.set_minor_locator(NullLocator())
    return fig


def _points(
    ax: Axes, study: Study, trials: Sequence[Trial], value: Callable[[Trial], float | None], colour: str, marker: str,
    label: str | None = None,
) -> None:  # fmt: skip
    found: dict[float, list[float]] = {}
    for trial in trials:
        if (y := value(trial)) is not None:
            found.setdefault(trial.at(study.axis), []).append(y)
    xs = sorted(found)
    ax.plot(xs, [sum(found[x]) / len(found[x]) for x in xs], color=colour, linewidth=1.2, alpha=0.6, zorder=2)
    for whole in (True, False):
        some = [
            (trial.at(study.axis), y) for trial in trials if (trial.stop is None) == whole and (y := value(trial)) is not None
        ]
        ax.plot([x for x, _ in some], [y for _, y in some], linestyle="none", label=label if whole else None, zorder=3,
                **style.dot(colour, marker, whole))  # fmt: skip


def _stops(ax: Axes, study: Study, trials: Sequence[Trial]) -> None:
    for x in sorted({trial.at(study.axis) for trial in trials if trial.stop}):
        steps = sorted({trial.stop.step for trial in trials if trial.stop and trial.at(study.axis) == x})
        ax.annotate(f"stopped at step {', '.join(map(str, steps))}", (x, 0.04), xycoords=("data", "axes fraction"), ha="right",
                    va="bottom", rotation=90, fontsize=8, color=style.WARNING)  # fmt: skip


def _dead(ax: Axes, study: Study, trials: Sequence[Trial]) -> None:
    """Dead experts, written above the points of the values that have some."""
    for x in sorted({trial.at(study.axis) for trial in trials}):
        dead = max(trial.health.dead for trial in trials if trial.at(study.axis) == x)
        if dead:
            ax.annotate(f"{dead} dead", (x, 0.98), xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=8,
                        color=style.WARNING)  # fmt: skip
