"""`precision.png`: what a format below bf16 does to learning, layer by layer, on the steps that close a window.

On top, whether learning arrives: the share of weight codes that a step's update flips, and the router's gradient beside the
smallest step of the format. Below, what quantization does to the tensors, a column a group of operands: of each group the
tensor that fares worst is drawn, and its panel names it. Letters: L layers that quantize.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from harness.report import style
from harness.report.run_data import RunData

GROUPS = {
    "weights": ("weight_up", "weight_down"),
    "activations": ("input", "hidden"),
    "gradients": ("gradient", "hidden_gradient"),
    "weight-gradient factors": ("wgrad_input", "wgrad_hidden_gradient", "wgrad_hidden", "wgrad_gradient"),
}
FIGURES = {  # name: (label of its row, times, which is the worst of a group)
    "snr_db": ("signal / error\n(dB)", 1, min),
    "underflow": ("rounded to 0\n(% of values)", 100, max),
    "saturation": ("saturated\n(% of values)", 100, max),
}
DASHES, DOTS = (0, (2, 1.5)), (0, (1, 1.5))
CAUSES = {"scale": (DASHES, "dashed: scale moved"), "dither": (DOTS, "dotted: dither")}  # beside the line of all flips
DARK = "#505050"
NAMED = 16  # more layers than this are not all named in the legend
Windows = list[dict[str, Any]]
Colours = dict[str, Any]  # by layer, in order
Draw = Callable[[Axes, Windows, Colours], None]


def has_precision(run: RunData) -> bool:
    return bool(_measured(run))


def _measured(run: RunData) -> Windows:
    """The windows that say what became of each tensor, with every part that a panel may ask for."""
    parts: dict[str, Any] = {"flips": {}, "flip_causes": {}, "router_grad_rms": {}, "smallest_step": {}}
    found = [window for window in run.windows if (window.get("precision") or {}).get("tensors")]
    return [window | {"precision": parts | window["precision"]} for window in found]


def draw_precision(run: RunData, path: Path) -> Path:
    """For a run whose windows hold `precision` (see `has_precision`)."""
    windows = _measured(run)
    found = [window["precision"] for window in windows]
    layers = sorted({layer for p in found for layer in p["tensors"]}, key=int)
    present = {tensor for p in found for of_layer in p["tensors"].values() for tensor in of_layer}
    groups = {name: known for name, tensors in GROUPS.items() if (known := [t for t in tensors if t in present])}
    arrivals = _arrivals(found)
    heights = [2.1] * bool(arrivals) + [4.1]
    precision = run.record.precision
    title = f"what {precision.format} ({precision.execution}) does to learning, by layer"
    fig = style.new_figure(run, title, sum(heights), *_notes(found))
    colours = dict(zip(layers, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(layers)))))
    *above, below = fig.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part in above:
        for ax, (name, explained, draw) in zip(part.subplots(1, len(arrivals), squeeze=False)[0], arrivals):
            draw(ax, windows, colours)
            _head(ax, name, explained)
            _steps(ax)
    axes = below.subplots(len(FIGURES), len(groups), sharex=True, sharey="row", squeeze=False)
    for i, (row, (figure, (label, times, worst))) in enumerate(zip(axes, FIGURES.items())):
        for ax, (group, tensors) in zip(row, groups.items()):
            most = _operands(ax, windows, colours, tensors, figure, times, worst)
            _head(ax, group if i == 0 else "", most if len(tensors) > 1 else "")
        row[0].set_ylabel(label)
        if worst is max:
            row[0].set_ylim(bottom=0)
    for ax in axes[-1]:
        _steps(ax)
    style.add_legend(fig, fig.axes[0], extra=_legend(colours))
    return style.save(fig, path)


def _notes(found: list[dict[str, Any]]) -> list[str]:
    notes = ["one point a window, of the step that closes it"]
    if any(shares for p in found for shares in p["flips"].values()):
        notes.append("a code flips when the update moves a weight to another value of the format; a triangle on the axis is 0")
    if any(shares for p in found for shares in p["flip_causes"].values()):
        notes.append(
            "dashed there: of all flips, codes that would have stayed under the scales of before; the others moved themselves"
        )
    if any("dither" in cause for p in found for shares in p["flip_causes"].values() for cause in shares):
        notes.append("dotted there: codes that the dither exchanges for one step, in no other line")
    if any(p["smallest_step"] for p in found):
        notes.append(
            "smallest step: the smallest magnitude told apart from 0 in the gradient that enters the layer's FFN, by "
            "way of which the router learns"
        )
    notes.append(
        "lower rows: of a group's tensors the one that fares worst, and above each panel which that is most often; signal / "
        "error: power of the values over power of their rounding error, a gap where a tensor is zero or exact; saturated: "
        "beyond what the block's scale reaches"
    )
    return notes


def _arrivals(found: list[dict[str, Any]]) -> list[tuple[str, str, Draw]]:
    """Title, explanation and drawing of each panel of the top row that this run has figures for."""
    panels: list[tuple[str, str, Draw]] = []
    for name in ("up", "down"):
        if any(name in shares for p in found for shares in p["flips"].values()):
            causes = [
                cause for cause in CAUSES if any(f"{name}.{cause}" in c for p in found for c in p["flip_causes"].values())
            ]
            explained = "; ".join(CAUSES[cause][1] for cause in causes) or "share that a step's update changes"
            panels.append((f"weight codes flipped: {name}", explained, partial(_flips, name, causes)))
    if any(p["router_grad_rms"] for p in found):
        panels.append(("router gradient RMS", "dashed: the smallest step of the format", _router))
    return panels


def _flips(name: str, causes: list[str], ax: Axes, windows: Windows, colours: Colours) -> None:
    """Shares in %, log y; windows in which nothing flipped lie on the axis as triangles."""
    for layer, colour in colours.items():
        for cause in causes:
            of_layer = [w["precision"]["flip_causes"].get(layer, {}).get(f"{name}.{cause}", np.nan) for w in windows]
            _log_line(ax, windows, [100 * share for share in of_layer], colour, CAUSES[cause][0], few=1)
        values = [100 * w["precision"]["flips"].get(layer, {}).get(name, np.nan) for w in windows]
        _log_line(ax, windows, values, colour)
        none = [w["step"] for w, value in zip(windows, values) if value == 0]
        if none:
            at = ax.get_xaxis_transform()
            ax.plot(none, [0] * len(none), "v", color=colour, markersize=5, transform=at, clip_on=False, zorder=3)
    ax.set_ylabel("% of codes per step")
    _log_scale(ax)


def _router(ax: Axes, windows: Windows, colours: Colours) -> None:
    for layer, colour in colours.items():
        for key, dashes in (("router_grad_rms", "-"), ("smallest_step", DASHES)):
            _log_line(ax, windows, [w["precision"][key].get(layer, np.nan) for w in windows], colour, dashes)
    ax.set_ylabel("magnitude")
    _log_scale(ax)


def _operands(
    ax: Axes, windows: Windows, colours: Colours, tensors: list[str], figure: str, times: float, worst: Callable[..., Any]
) -> str:
    """One figure of one group of tensors; returns which of them is drawn most often."""
    named: Counter[str] = Counter()
    shown: list[float] = []
    for layer, colour in colours.items():
        values = [_worst(w["precision"]["tensors"].get(layer, {}), tensors, figure, worst) for w in windows]
        named.update(tensor for tensor, _ in values if tensor)
        _line(ax, windows, [times * value for _, value in values], colour)
        shown += [value for _, value in values]
    said = "0 throughout" if not any(shown) else "every tensor zero or exact" if np.isnan(shown).all() else ""
    ax.annotate(said, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=DARK)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    return f"worst: {named.most_common(1)[0][0]}" if named and any(shown) else ""


def _worst(
    of_layer: dict[str, dict[str, float]], tensors: list[str], figure: str, worst: Callable[..., Any]
) -> tuple[str | None, float]:
    """The tensor that fares worst and its value; NaN where no tensor has a finite one."""
    known = [(of_layer[t][figure], t) for t in tensors if t in of_layer and np.isfinite(of_layer[t][figure])]
    value, tensor = worst(known, key=lambda pair: pair[0]) if known else (np.nan, None)
    return tensor, value


def _line(ax: Axes, windows: Windows, values: list[float], colour: Any, dashes: Any = "-", few: int = 12) -> None:
    """Few windows are drawn as points too: a line of one has no length."""
    marker = "o" if len(windows) <= few else None
    ax.plot([w["step"] for w in windows], values, color=colour, linestyle=dashes, marker=marker, markersize=3, linewidth=1.2)


def _log_line(ax: Axes, windows: Windows, values: list[float], colour: Any, dashes: Any = "-", few: int = 12) -> None:
    _line(ax, windows, [value if value > 0 else np.nan for value in values], colour, dashes, few)


def _log_scale(ax: Axes) -> None:
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 3) if high < 100 * low else (1,), numticks=6))
    ax.yaxis.set_major_formatter(FuncFormatter(_short))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _short(value: float, _position: object) -> str:
    return f"{value:g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def _head(ax: Axes, title: str, explained: str) -> None:
    """A title and, in small letters between it and the panel, what it means."""
    ax.set_title(title, loc="left", pad=15)
    ax.annotate(explained, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=7.5, color=DARK)


def _steps(ax: Axes) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlim(left=0)
    ax.set_xlabel("step")


def _legend(colours: Colours) -> list[Line2D]:
    """The layers by colour, from first to last."""
    names = list(colours)
    shown = names if len(names) <= NAMED else [names[round(i)] for i in np.linspace(0, len(names) - 1, NAMED // 2)]
    return [Line2D([], [], color=colours[name], label=f"layer {name}" if name == shown[0] else name) for name in shown]
