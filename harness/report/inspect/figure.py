"""`inspect.png`: the tables of `inspect` on one page, a panel a question that has an answer."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.ticker import MaxNLocator

from harness.report import style
from harness.report.inspect.text import name_of

COLOURS = (
    style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY, style.BLACK, style.GREY, style.YELLOW,
)  # fmt: skip
ROW_IN = 2.7
DOTTED = (0, (1.5, 1.5))
Found = dict[str, Any]


def draw_inspect(found: Found, path: Path) -> Path:
    """`found` as `as_text` takes it. Colours are tasks, in every panel of lines."""
    title = f"{found['run']['lane']}: inside, {_title(found)}"
    return style.page(title, _caption(found), ROW_IN, [partial(draw, found=found) for draw in _panels(found)], path)


def _title(found: Found) -> str:
    return f"{sum(row['instances'] for row in found['tasks']):,} test instances"


def _panels(found: Found) -> list[Callable[[Axes, Found], None]]:
    panels: list[Callable[[Axes, Found], None]] = [_lens]
    panels += [_probes] if found["probes"] else []
    panels.append(partial(_cka, which="own"))
    panels += [partial(_cka, which="against")] if found["cka"]["against"] is not None else []
    panels += [_looks] if found["looks"] else []
    panels += [_routing] if found["routing"] else []
    panels += [_ablation] if found["ablation"] and found["ablation"]["rows"] else []
    return panels


def _caption(found: Found) -> str:
    said = [name_of(found["run"])]
    if found["against"]:
        said.append(f"against {name_of(found['against'])}")
    said.append("intervals are over instances, those of one panel hold together at 95%")
    if found["probes"]:
        said.append("probes: filled where above the same probe on first weights and on shuffled labels, and above what the "
                    "token's id alone tells; the best of these is dotted")  # fmt: skip
    if found["looks"] or found["ablation"]:
        said.append("a dot in a map: above its control")
    if found["why_no_routing"]:
        said.append(found["why_no_routing"])
    return "; ".join(said) + "."


def _colours(found: Found) -> dict[str, str]:
    return {row["task"]: COLOURS[number % len(COLOURS)] for number, row in enumerate(found["tasks"])}


def _by_depth(ax: Axes, title: str, unit: str) -> None:
    ax.set_title(title, loc="left")
    ax.set_xlabel("blocks")
    ax.set_ylabel(unit)
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))


def _lens(ax: Axes, found: Found) -> None:
    for task, colour in _colours(found).items():
        rows = [row for row in found["lens"] if row["task"] == task]
        if not rows:
            continue
        depth = [row["depth"] for row in rows]
        ax.plot(depth, [row["nats"] for row in rows], color=colour, label=style.words(task))
        ax.fill_between(depth, *zip(*(row["interval"] for row in rows)), color=colour, alpha=0.15, linewidth=0)
    chance = float(np.log(found["model"]["vocabulary"]))
    ax.axhline(chance, color=style.GREY, linewidth=1, linestyle=DOTTED)
    ax.set_ylim(0, max(1.05 * chance, 1.05 * min(max((row["nats"] for row in found["lens"]), default=0), 2 * chance)))
    _by_depth(ax, "each depth through the head (dotted: uniform)", "nats of an answer")


def _probes(ax: Axes, found: Found) -> None:
    for task, colour in _colours(found).items():
        rows = [row for row in found["probes"] if row["task"] == task]
        if not rows:
            continue
        depth = [row["depth"] for row in rows]
        best = [max(row[name][0] for name in ("untrained", "shuffled", "token")) for row in rows]
        ax.plot(depth, best, color=colour, linewidth=1, linestyle=DOTTED)
        ax.plot(depth, [row["accuracy"] for row in rows], color=colour, linewidth=1.2)
        for row in rows:
            ax.plot([row["depth"]] * 2, row["interval"], color=colour, linewidth=1)
            ax.plot(row["depth"], row["accuracy"], linestyle="none", **style.dot(colour, "o", row["above"]))
    ax.set_ylim(0, 1.03)
    _by_depth(ax, "linear probes for the latent state", "accuracy")


def _map(ax: Axes, values: np.ndarray, title: str, unit: str, **colours: Any) -> None:
    image = ax.imshow(values, aspect="auto", interpolation="nearest", **colours)
    ax.figure.colorbar(image, ax=ax, pad=0.02, aspect=16).set_label(unit)
    ax.set_xlim(-0.5, values.shape[1] - 0.5)
    ax.set_ylim(values.shape[0] - 0.5, -0.5)
    ax.set_title(title, loc="left")
    ax.grid(False)


def _cka(ax: Axes, found: Found, which: str) -> None:
    matrix = found["cka"][which]
    values = np.array([[np.nan if value is None else value for value in row] for row in matrix])
    _map(ax, values, "CKA of this run with " + ("itself" if which == "own" else "the other"), "linear CKA", vmin=0, vmax=1)
    ax.set_xlabel("blocks" if which == "own" else "blocks of the other run")
    ax.set_ylabel("blocks")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(10, integer=True))
    ax.invert_yaxis()


def _of_tasks(ax: Axes, rows: list[dict[str, Any]], column: str, figure: str) -> tuple[list[str], np.ndarray]:
    """(tasks, values): a line a task, the columns `layer` and `column` in order; dots where a row is above its control."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    columns = sorted({(row["layer"], row[column]) for row in rows})
    values = np.full((len(tasks), len(columns)), np.nan)
    for row in rows:
        at = tasks.index(row["task"]), columns.index((row["layer"], row[column]))
        values[at] = row[figure]
        if row["above"]:
            ax.plot(at[1], at[0], ".", color="white", markeredgecolor="black", markeredgewidth=0.4, markersize=4)
    layers = [layer for layer, _ in columns]
    firsts = [layers.index(layer) for layer in dict.fromkeys(layers)]
    ax.set_xticks(firsts, [str(layers[first]) for first in firsts])
    for first in firsts[1:]:
        ax.axvline(first - 0.5, color="white", linewidth=1)
    ax.set_xlabel(f"{column}s of each layer")
    ax.set_yticks(range(len(tasks)), [style.words(task) for task in tasks])
    return tasks, values


def _looks(ax: Axes, found: Found) -> None:
    _, values = _of_tasks(ax, found["looks"], "head", "weight")
    _map(ax, values, "attention to what decides an answer", "weight", vmin=0, vmax=1)


def _ablation(ax: Axes, found: Found) -> None:
    _, values = _of_tasks(ax, found["ablation"]["rows"], "expert", "nats")
    most = max(float(np.nanmax(np.abs(values))), 1e-6)
    _map(ax, values, "an expert silenced", "nats more per answer", cmap="RdBu_r", norm=TwoSlopeNorm(0, -most, most))


def _routing(ax: Axes, found: Found) -> None:
    lines: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for row in found["routing"]:
        lines.setdefault((row["of"], row["task"]), []).append(row)
    colours = _colours(found)
    marks = {"task": "s", "task-of-a-token": "^", "token": "D", "latent": "o"}
    for (of, task), rows in lines.items():
        colour = colours[task] if task else style.BLACK if of == "token" else style.GREY
        layer = [row["layer"] for row in rows]
        ax.plot(layer, [row["information"] for row in rows], color=colour, linewidth=1.2)
        ax.plot(layer, [row["control"][0] for row in rows], color=colour, linewidth=1, linestyle=DOTTED)
        for row in rows:
            ax.plot([row["layer"]] * 2, row["interval"], color=colour, linewidth=1)
            ax.plot(row["layer"], row["information"], linestyle="none", **style.dot(colour, marks[of], row["above"]))
    names = (("latent", "state", "o"), ("task", "task", "□"), ("task-of-a-token", "beyond ids", "△"), ("token", "token", "◇"))
    said = [f"{name} {sign}" for of, name, sign in names if any(key[0] == of for key in lines)]
    ax.set_title(f"experts tell of {', '.join(said)} (dotted: control)", loc="left", fontsize=8.5)
    ax.set_xlabel("layer")
    ax.set_ylabel("nats")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
