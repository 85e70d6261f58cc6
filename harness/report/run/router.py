"""`router_health.png` and `expert_load.png`: where the router sends tokens, over the run and at its end.

Both read the per-window counts alone. Letters: N windows, L MoE layers, E experts, K top-k.
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.record.load import Load
from harness.report import style
from harness.report.run_data import RunData

SORT_ABOVE = 64  # more experts than this are drawn sorted by load: ids would not be readable


def draw_router_health(run: RunData, path: Path) -> Path:
    """Heat maps, layers by steps: entropy ratio, largest load, and dead experts or, where none died, the spread of load."""
    num_experts, load = run.experts, _windows(run)
    uniform, dominant = 100 / num_experts, 100 / run.top_k
    maps = [
        ("entropy_ratio", f"entropy of the load / ln {num_experts} (1 is uniform)", "ratio", "viridis"),
        ("max_load_percent", f"load of the busiest expert (uniform {uniform:.3g}%, dominant {dominant:.3g}%)", "% of load",
         "viridis_r"),
    ]  # fmt: skip
    if load.dead.any():
        maps.append(("dead", f"experts without a token in a window, of {num_experts}", "experts", "viridis_r"))
    else:
        title = "coefficient of variation of the load (no expert was dead in any window)"
        maps.append(("cv_percent", title, "%", "viridis_r"))
    layers = len(run.moe_layers)
    each_in = min(max(0.75 + 0.14 * layers, 1.05), 2.6)
    fig = style.new_figure(run, "router health by layer and step", 0.5 + 3 * each_in, _window_note(run))
    for ax, (name, title, unit, colours) in zip(fig.subplots(3, 1, sharex=True), maps):
        _heat_map(ax, run, getattr(load, name), colours, unit, whole=name == "dead")
        ax.set_title(title, loc="left")
    ax.set_xlabel("step")
    return style.save(fig, path)


def _heat_map(ax: Axes, run: RunData, values_NL: np.ndarray, colours: str, unit: str, whole: bool) -> None:
    layers = values_NL.shape[1]
    edges = [run.steps[0]["step"] - 1, *(window["step"] for window in run.windows)]
    low, high = float(values_NL.min()), float(values_NL.max())
    if whole:
        low, high = 0.0, max(high, 1.0)
    elif high - low < 1e-9:
        low, high = low - 0.005 * abs(low) - 1e-9, high + 0.005 * abs(high) + 1e-9
    y_edges = np.arange(layers + 1) - 0.5
    mesh = ax.pcolormesh(edges, y_edges, values_NL.T, cmap=colours, vmin=low, vmax=high)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.015, aspect=12)
    bar.set_label(unit)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4, integer=whole))
    ax.grid(False)
    ax.set_ylabel("layer")
    each = math.ceil(layers / 6)
    ax.set_yticks(range(0, layers, each), [str(layer) for layer in run.moe_layers[::each]])
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.invert_yaxis()


def draw_expert_load(run: RunData, path: Path) -> Path:
    """One panel a layer: the share of load of each expert over the last quarter of windows, against the uniform 1/E."""
    counts_NLE = _windows(run).counts
    last = math.ceil(len(counts_NLE) / 4)
    load = Load(counts_NLE[-last:].sum(0))
    layers, num_experts = load.counts.shape
    columns = 1 if layers == 1 else 2
    rows = math.ceil(layers / columns)
    since = run.windows[-last - 1]["step"] if last < len(run.windows) else run.steps[0]["step"] - 1
    notes = ["tokens x top-k of whole training steps", f"the dashed line is uniform, {100 / num_experts:.3g}%"]
    end = run.windows[-1]["step"]
    title = f"load of each expert, steps {since + 1:,} to {end:,}" if end > since + 1 else f"load of each expert, step {end:,}"
    fig = style.new_figure(run, title, 0.6 + (2.4 if rows == 1 else 1.45 * rows), *notes)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for layer, ax in enumerate(axes.flat):
        if layer >= layers:
            ax.set_visible(False)
            continue
        _bars(ax, 100 * load.share[layer], dead=int(load.dead[layer]), name=f"layer {run.moe_layers[layer]}")
    for ax in axes[:, 0]:
        ax.set_ylabel("% of load")
    by_load = num_experts > SORT_ABOVE
    for column in range(columns):
        row = [row for row in range(rows) if axes[row, column].get_visible()][-1]
        axes[row, column].tick_params(labelbottom=True)
        if row == rows - 1:
            axes[row, column].set_xlabel("experts, sorted by load" if by_load else "expert")
    if axes[0, 0].get_ylim()[1] < 1.35 * 100 / num_experts:
        axes[0, 0].set_ylim(0, 1.35 * 100 / num_experts)
    return style.save(fig, path)


def _bars(ax: Axes, percent_E: np.ndarray, dead: int, name: str) -> None:
    """Dead experts have no bar, so they get a cross on the axis."""
    num_experts = len(percent_E)
    if num_experts > SORT_ABOVE:
        percent_E = np.sort(percent_E)[::-1]
        ax.fill_between(np.arange(num_experts + 1) - 0.5, np.append(percent_E, percent_E[-1]), step="post",
                        color=style.THIS_RUN, linewidth=0)  # fmt: skip
    else:
        ax.bar(np.arange(num_experts), percent_E, width=0.8, color=style.THIS_RUN)
    at = np.flatnonzero(percent_E == 0)
    if len(at):
        size = 5 if num_experts <= SORT_ABOVE else 2
        ax.plot(at, np.zeros(len(at)), "x", color=style.WARNING, markersize=size, clip_on=False, zorder=5)
    uniform = 100 / num_experts
    ax.axhline(uniform, color=style.TWIN, linewidth=1.3, linestyle=(0, (4, 2)))
    ax.set_title(
        f"{name}: {percent_E.min():.3g}% to {percent_E.max():.3g}%, {dead} dead",
        loc="left", fontsize=8.5, color=style.WARNING if dead else "black",
    )  # fmt: skip
    ax.set_xlim(-0.8, num_experts - 0.2)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 4, 8, 10]))
    ax.grid(False, axis="x")


def _windows(run: RunData) -> Load:
    """By window and layer."""
    return Load.of([window["counts"] for window in run.windows])


def _window_note(run: RunData) -> str:
    """How long a window is: a dead expert of 16 steps is another thing than one of 64."""
    edges = [run.steps[0]["step"] - 1, *(window["step"] for window in run.windows)]
    lengths = sorted({b - a for a, b in zip(edges, edges[1:])})
    length = f"{lengths[0]} to {lengths[-1]}" if len(lengths) > 1 else f"{lengths[0]}"
    steps = "step" if lengths[-1] == 1 else "steps"
    return f"tokens x top-k of whole training steps; each column is a window of {length} {steps}; darker is less even"
