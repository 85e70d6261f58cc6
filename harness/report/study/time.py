"""Cases over training, by tokens: bits of the slice, and how even the load is in each window."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from harness.plan.study import Study
from harness.report import style
from harness.report.study.frame import Case, draw_curves, line, new_figure, tokens_axis

PANELS = {
    "entropy_ratio": "entropy of the load / ln E (1 is even)",
    "cv_percent": "coefficient of variation of the load, %",
    "busiest": "busiest expert: load / even share",
}


def draw_time(study: Study, cases: Sequence[Case]) -> Figure:
    notes = ["a line a seed", "load: the worst layer of each window of training", _windows(cases)]
    fig = new_figure(study, cases, 4.6, *notes)
    axes = fig.subplots(2, 2).flat
    curves = axes[0]
    draw_curves(curves, cases)
    for ax, (key, title) in zip(axes[1:], PANELS.items()):
        for case in cases:
            for trial in case.trials:
                series = trial.over_time
                every = max(1, len(series.tokens) // 8)
                line(ax, case, series.tokens, getattr(series, key), first=trial is case.trials[0], every=every)
        ax.set_title(title, loc="left")
        tokens_axis(ax, cases)
    style.add_legend(fig, curves)
    return fig


def _windows(cases: Sequence[Case]) -> str:
    """How many tokens a window is: fewer tokens are less even by chance."""
    sizes = {}
    for case in cases:
        tokens = [0, *case.trials[0].over_time.tokens]
        sizes[case.name] = max((b - a for a, b in zip(tokens, tokens[1:])), default=0)
    if len(set(sizes.values())) == 1:
        return f"a window is {next(iter(sizes.values())):,} tokens"
    return "tokens of a window: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items())
