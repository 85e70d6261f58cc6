"""The same text again and again: bits of train and of val by tokens, bits of val at the end by the number of passes, and
whether repetition costs one family more."""

from collections.abc import Sequence
from itertools import groupby

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.plan.study import Study
from harness.report import style
from harness.report.study.families import between, by_seed, dials, effects, sample
from harness.report.study.frame import COLOURS, Case, family_keys, measure_of, new_figure, tokens_axis, with_interval
from harness.report.study.repetition import passes, train_unit
from harness.report.study.trials import SPANS, Trial, val_bpb

DASHES = ("-", (0, (3, 1.5)))  # by family
APART = 0.16  # of a place: from one family's dots to the next one's
EARLY = 1 / 8  # of the budget: what lies before it may leave the panels of curves

Points = Sequence[tuple[float, float]]


def draw_epochs(study: Study, cases: Sequence[Case]) -> Figure:
    trials = [trial for case in cases for trial in case.trials]
    notes = [
        f"curves: means over seeds, of train over each 1/{SPANS} of training, each batch before it is trained with",
        "points below: means and 95% intervals over seeds (hollow: one seed, no interval), which include the choice of the "
        "text that is repeated, as a seed makes it",
        *(["fresh: random windows of all of train, none twice"] if "fresh" in map(passes, trials) else []),
        *(["1: whole passages, read once"] if any(trial.train.passes == 1 for trial in trials) else []),
    ]
    fig = new_figure(study, cases, 5.2, *notes)
    (train, val), (end, more) = fig.subplots(2, 2)
    order = _places(trials)
    colours = _colours(order)
    for at, (base, by_dial) in enumerate(dials(study).values()):
        for case in (case for case in cases if case.name in (base, *by_dial.values())):
            look = {"color": colours[passes(case.trials[0])], "linestyle": DASHES[at], "linewidth": 1.3}
            for ax, curve in ((train, _of_train), (val, _of_val)):
                points = _mean([curve(trial) for trial in case.trials])
                ax.plot(*zip(*points) if points else ([], []), **look)
    _limits(train, val, trials)
    for ax in (train, val):
        tokens_axis(ax, cases)
    train.set_title(f"{train_unit(trials[0])} of train", loc="left")
    val.set_title(f"{measure_of(cases)} of val's slice", loc="left")
    _ends(end, study, trials, order)
    end.set_title(f"{measure_of(cases)} of val at the end", loc="left")
    _interaction(more, study, trials, order)
    keys = family_keys(study.families)
    for at, key in enumerate(keys):
        key.set_linestyle(DASHES[at])
    texts = [Line2D([], [], color=colours[name], linewidth=3, label=f"{name}x" if name.isdecimal() else name) for name in order]
    style.add_legend(fig, train, extra=[*keys, *texts])
    return fig


def _places(trials: Sequence[Trial]) -> list[str]:
    """What the numbers of passes are called, from fresh text on."""
    return list(dict.fromkeys(passes(trial) for trial in sorted(trials, key=lambda trial: trial.train.passes)))


def _colours(order: Sequence[str]) -> dict[str, str | tuple[float, ...]]:
    """Black where nothing is chosen; then darker and darker with the number of passes."""
    repeated = [name for name in order if name.isdecimal()]
    shades = {name: colormaps["viridis"](0.85 * (1 - at / max(len(repeated) - 1, 1))) for at, name in enumerate(repeated)}
    return {name: shades.get(name, style.BLACK) for name in order}


def _of_train(trial: Trial) -> Points:
    return list(zip(trial.train.tokens, trial.train.bits))


def _of_val(trial: Trial) -> Points:
    return trial.curve


def _mean(curves: Sequence[Points]) -> list[tuple[float, float]]:
    """Over the seeds that have come to a point."""
    points = sorted(point for curve in curves for point in curve)
    found = [(tokens, [bits for _, bits in some]) for tokens, some in groupby(points, key=lambda point: point[0])]
    return [(tokens, sum(some) / len(some)) for tokens, some in found]


def _limits(train: Axes, val: Axes, trials: Sequence[Trial]) -> None:
    """Both panels alike, so that train and val can be held against each other."""
    late = [
        bits for trial in trials for curve in (_of_train(trial), _of_val(trial)) for tokens, bits in curve
        if tokens >= EARLY * trial.plan["budget"]["tokens"]
    ]  # fmt: skip
    if late:
        margin = 0.05 * (max(late) - min(late)) or 0.05
        for ax in (train, val):
            ax.set_ylim(min(late) - margin, max(late) + margin)


def _ends(ax: Axes, study: Study, trials: Sequence[Trial], order: Sequence[str]) -> None:
    """A family's bits of val by the number of passes."""
    for at, (base, cases) in enumerate(dials(study).values()):
        line = []
        for case in (base, *cases.values()):
            found = sample(by_seed(trials, case, val_bpb))
            if found:
                line.append((_place(trials, case, order) + APART * (at - 0.5), found))
        line.sort(key=lambda point: point[0])
        ax.plot([x for x, _ in line], [y.mean for _, y in line], color=COLOURS[at], linewidth=1, alpha=0.5, zorder=1)
        for x, found in line:
            with_interval(ax, x, found, at)
    _passes_axis(ax, order)


def _interaction(ax: Axes, study: Study, trials: Sequence[Trial], order: Sequence[str]) -> None:
    """What the cost of repetition is in the second family over that in the first; of a study without, the cost."""
    _passes_axis(ax, order)
    ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1)
    families = dials(study)
    (base, cases), *_ = families.values()
    if len(families) == 2:
        first, second = families
        ax.set_title(f"cost over fresh text: {second} minus {first}, points of %", loc="left")
    else:
        ax.set_title(f"cost over {base} at equal seeds, %", loc="left")
    for dial, case in cases.items():
        changed = effects(study, trials, dial)
        found = sample(between(*changed) if len(changed) == 2 else changed[0])
        if found:
            with_interval(ax, _place(trials, case, order), found, len(COLOURS) - 1 if len(changed) == 2 else 0)


def _place(trials: Sequence[Trial], case: str, order: Sequence[str]) -> int:
    return order.index(next(passes(trial) for trial in trials if trial.case == case))


def _passes_axis(ax: Axes, order: Sequence[str]) -> None:
    ax.set_xticks(range(len(order)), order)
    ax.set_xlim(-0.5, len(order) - 0.5)
    ax.set_xlabel("passes over the text")
