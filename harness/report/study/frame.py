"""What the figures of all studies share: the frame, and how cases are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.plan.study import Study
from harness.report import style
from harness.report.statistics import Sample
from harness.report.study.table import stopped, unranked
from harness.report.study.trials import Trial

COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY, style.BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST = 900  # characters of why cases are unranked: some ten lines


@dataclass(frozen=True)
class Case:
    """A case with a trial at least. More cases than colours share them, never colour and marker both."""

    name: str
    trials: tuple[Trial, ...]
    number: int

    @property
    def colour(self) -> str:
        return COLOURS[self.number % len(COLOURS)]

    @property
    def marker(self) -> str:
        return MARKERS[(self.number + self.number // len(COLOURS)) % len(MARKERS)]


def cases_of(study: Study, trials: Sequence[Trial]) -> list[Case]:
    found = [Case(name, tuple(t for t in trials if t.case == name), number) for number, name in enumerate(study.cases)]
    return [case for case in found if case.trials]


def new_figure(study: Study, cases: Sequence[Case], height_in: float, *notes: str) -> Figure:
    """Title (the question), caption and why cases are unranked in place."""
    trials = [trial for case in cases for trial in case.trials]
    counts = sorted({len(case.trials) for case in cases})
    n = f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "") + (" seed" if counts == [1] else " seeds")
    classes = sorted({trial.hardware_class for trial in trials if trial.hardware_class})
    stops = [f"{case.name} {stops}" for case in cases if (stops := stopped(case.trials))]
    forks = [f"{case.name} starts from {fork[0]} at step {fork[1]}" for case in cases if (fork := study.fork(case.name))]
    said = [f"Study {study.name}, {study.title}: lane {study.lane}, {n} a case", *notes, *forks, *stops]
    said.append(f"hardware class {'; '.join(classes)}" if classes else "no run finished")
    return style.plain_figure(study.question, height_in, "; ".join(said) + ".", unranked(trials, MOST))


def measure_of(cases: Sequence[Case]) -> str:
    """What val of the study's track is scored in."""
    return cases[0].trials[0].measure


def draw_curves(ax: Axes, cases: Sequence[Case]) -> None:
    """Bits of the slice by tokens, a line a seed. Validations of the first half, far above the rest, may leave it."""
    late: list[float] = []
    for case in cases:
        for trial in case.trials:
            line(ax, case, *zip(*trial.curve) if trial.curve else ((), ()), first=trial is case.trials[0])
            budget = trial.plan["budget"]["tokens"]
            late += [bits for tokens, bits in trial.curve if tokens >= budget / 2 or trial.stop]
    if late:
        margin = 0.08 * (max(late) - min(late)) or 0.05
        ax.set_ylim(min(late) - margin, max(late) + margin)
    above = any(bits > ax.get_ylim()[1] for case in cases for trial in case.trials for _, bits in trial.curve)
    ax.set_title(f"{measure_of(cases)} of the slice" + (" (early ones above)" if above else ""), loc="left")
    tokens_axis(ax, cases)


def line(ax: Axes, case: Case, xs: Sequence[float], ys: Sequence[float], first: bool, every: int = 1) -> None:
    """A seed's line; the first seed carries the name."""
    ax.plot(xs, ys, color=case.colour, marker=case.marker, markevery=every, markersize=4.5, markeredgecolor="white",
            markeredgewidth=0.5, linewidth=1.3, label=case.name if first else None, clip_on=True)  # fmt: skip


def tokens_axis(ax: Axes, cases: Sequence[Case]) -> None:
    ax.xaxis.set_major_formatter(style.MAGNITUDE)
    ax.set_xlim(left=0)
    ax.set_xlabel("training bytes" if cases[0].trials[0].counts_bytes else "training tokens")


def with_interval(ax: Axes, at: float, found: Sample, family: int, sideways: bool = False) -> None:
    """The mean of a family's seeds at `at` of an axis of places, and its 95% interval; along x where it lies `sideways`."""
    bounds = found.interval()
    if bounds:
        line_to = ax.hlines if sideways else ax.vlines
        line_to(at, *bounds, color=COLOURS[family], linewidth=1.3, zorder=2)
    look = style.dot(COLOURS[family], MARKERS[family], bounds is not None) | {"markersize": 5}
    ax.plot(*([found.mean], [at])[:: 1 if sideways else -1], zorder=3, **look)


def family_keys(families: Sequence[str]) -> list[Line2D]:
    """What a legend says of families."""
    return [
        Line2D([], [], color=COLOURS[at], marker=MARKERS[at], linestyle="none", label=style.words(family))
        for at, family in enumerate(families) if family
    ]  # fmt: skip
