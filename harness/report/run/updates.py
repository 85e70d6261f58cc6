"""`updates.png`: how far each parameter group moves in a step, and how large its gradient is."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from harness.report import style
from harness.report.run_data import RunData


def draw_updates(run: RunData, path: Path) -> Path:
    """Two panels by group, log y: RMS of the update by RMS of the parameters, and RMS of the gradient."""
    fig = style.new_figure(run, "updates and gradients by parameter group", 3.5, "one point a window")
    moves, gradients = fig.subplots(1, 2)
    groups = [name for name in style.GROUPS if any(name in window["groups"] for window in run.windows)]
    for name in groups:
        rows = [(window["tokens"], window["groups"][name]) for window in run.windows if name in window["groups"]]
        tokens = [tokens for tokens, _ in rows]
        _line(moves, name, tokens, [_ratio(group["update_rms"], group["param_rms"]) for _, group in rows])
        _line(gradients, name, tokens, [group["grad_rms"] for _, group in rows])
    moves.set_title("size of a step: update RMS / parameter RMS", loc="left")
    gradients.set_title("gradient RMS", loc="left")
    for ax in (moves, gradients):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=10))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(style.MAGNITUDE)
        ax.set_xlim(left=0)
        ax.set_xlabel("training bytes" if run.counts_bytes else "training tokens")
    style.add_legend(fig, moves)
    return style.save(fig, path)


def _line(ax: Axes, name: str, tokens: list[int], values: list[float]) -> None:
    """A log axis has no zero: windows in which a group did not move are gaps. Few windows are drawn as points."""
    positive = [value if value > 0 else np.nan for value in values]
    marker = "o" if len(values) <= 12 else None
    ax.plot(tokens, positive, color=style.GROUPS[name], label=name, marker=marker, markersize=4)


def _ratio(update_rms: float, param_rms: float) -> float:
    """NaN for a group that is still all zeros."""
    return update_rms / param_rms if param_rms > 0 else np.nan
