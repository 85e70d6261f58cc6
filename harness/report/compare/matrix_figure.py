"""`matrix.png`: the lanes of a track side by side: seconds to target, bits per byte, evenness of routing, and each format
against bf16 at equal seeds; a mark a seed."""

import math
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report import style
from harness.report.compare.paired import BASE, Paired, paired
from harness.report.groups import Group
from harness.report.run_data import RunData

COLOURS = {
    "bf16": style.BLUE,
    "fp8": style.VERMILLION,
    "nvfp4": style.PURPLE,
    "mxfp8": style.ORANGE,
    "mxfp4": style.GREEN,
    "fp32": style.BLACK,
}
MARKERS = {"bf16": "o", "fp8": "s", "nvfp4": "^", "mxfp8": "v", "mxfp4": "P", "fp32": "D"}
MISSED = {"marker": "x", "linestyle": "none", "color": style.WARNING, "markersize": 5}
HALF = 0.07  # of a mean's bar; architectures are 1 apart
APART = 0.27  # precisions of one architecture
NAMED = 6  # more lanes than this have no room for the names of their formats on the axis
PANEL_IN = 2.75


def draw_matrix(groups: list[Group], path: Path) -> Path:
    """All groups are of one track, protocol and hardware class; at least one."""
    first, formats = groups[0].runs[0], sorted({group.precision for group in groups}, key=list(COLOURS).index)
    names = sorted({group.architecture for group in groups})
    place = {
        group.lane: names.index(group.architecture) + APART * (formats.index(group.precision) - (len(formats) - 1) / 2)
        for group in groups
    }
    moe, pairs = [group for group in groups if all(run.record.router_health for run in group.runs)], list(paired(groups))
    unranked = _unranked(groups)
    caution = f"unranked: {unranked}" if unranked else ""
    shown = 2 + bool(moe) + bool(pairs)
    rows = 1 if shown < 4 else 2
    with style.styled():
        title = f"track {first.record.track}: lanes side by side"
        fig = style.plain_figure(title, 0.4 + rows * PANEL_IN, _caption(groups, first, pairs), caution)
        panels = list(fig.subplots(rows, shown // rows, squeeze=False).flat)
        seconds, bits, *rest = panels
        _panel(seconds, groups, place, "seconds to target", lambda run: run.record.metrics.time_to_target_s, clock=True)
        seconds.set_ylim(bottom=0)
        reached = [run.record.metrics.time_to_target_s is not None for group in groups for run in group.runs]
        if not any(reached):
            seconds.set_yticks([])
        _panel(bits, groups, place, f"{first.measure} of the slice", lambda run: run.record.metrics.slice_bpb)
        _target(bits, first)
        if moe:
            ax = rest.pop(0)
            _panel(ax, moe, place, "evenness: worst entropy / ln E", lambda run: run.record.router_health.worst_entropy_ratio)
            _note_loads(ax, moe, place)
        if pairs:
            _differences(rest.pop(0), pairs, place)
        for ax, some in zip(panels, (groups, groups, *([moe] if moe else []), *([[p.group for p in pairs]] if pairs else []))):
            _lanes(ax, some, names, place)
        untimed = "no claim about speed" if any(group.disturbed for group in groups) else "emulated, no claim about speed"
        legend = _legend(formats, "" if all(group.timed for group in groups) else untimed, not all(reached))
        style.add_legend(fig, bits, columns=4 if len(legend) > 4 else None, extra=legend)
        return style.save(fig, path)


def _panel(
    ax: Axes, groups: list[Group], place: dict[str, float], title: str, value: Callable[[RunData], float | None],
    clock: bool = False,
) -> None:  # fmt: skip
    """A mark a seed and a bar for their mean, where every seed has a value. On a clock what no claim about speed may be made
    of is hollow and without a mean."""
    ax.set_title(title, loc="left")
    for group in groups:
        values, hollow = [value(run) for run in group.runs], clock and not group.timed
        _marks(ax, place[group.lane], values, group.precision, hollow)
        if None not in values and not hollow:
            _bar(ax, place[group.lane], sum(values) / len(values))
    ax.margins(y=0.25)


def _marks(ax: Axes, x: float, values: list[float | None], precision: str, hollow: bool = False) -> None:
    """Seeds lie beside each other, for two of the same value would be one mark; one without a value is a cross on the axis."""
    at = [x + HALF * (2 * i / (len(values) - 1) - 1) if len(values) > 1 else x for i in range(len(values))]
    edge, fill = (style.GREY, "none") if hollow else ("white", COLOURS[precision])
    ax.plot(at, [math.nan if v is None else v for v in values], marker=MARKERS[precision], markersize=5.5, linestyle="none",
            color=fill, markeredgecolor=edge, markeredgewidth=1.1 if hollow else 0.6, zorder=3)  # fmt: skip
    if missing := [x for x, value in zip(at, values) if value is None]:
        ax.plot(missing, [0.03] * len(missing), transform=ax.get_xaxis_transform(), **MISSED)


def _bar(ax: Axes, x: float, mean: float) -> None:
    ax.plot([x - 1.4 * HALF, x + 1.4 * HALF], [mean, mean], color=style.GREY, linewidth=2, zorder=2)


def _target(ax: Axes, first: RunData) -> None:
    target = first.target
    if not first.is_partial and target and target.metric == "slice_bpb":
        label = style.words(f"target: {target.label} {target.level:.4f}")
        ax.axhline(target.level, color=style.TARGET, linewidth=1.3, linestyle=(0, (5, 2)), label=label)


def _differences(ax: Axes, pairs: list[Paired], place: dict[str, float]) -> None:
    ax.set_title(f"{pairs[0].group.measure}: minus {BASE}", loc="left")
    ax.axhline(0, color=style.BLACK, linewidth=1)
    for pair in pairs:
        x, interval = place[pair.group.lane], pair.percent.interval()
        _marks(ax, x, list(pair.percent.values), pair.group.precision)
        _bar(ax, x, pair.percent.mean)
        if interval:
            ax.errorbar(x, pair.percent.mean, [[pair.percent.mean - interval[0]], [interval[1] - pair.percent.mean]],
                        color=style.GREY, capsize=4, linewidth=1.2, zorder=1)  # fmt: skip
    ax.margins(y=0.15)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}%" if value else "0"))


def _lanes(ax: Axes, groups: list[Group], names: list[str], place: dict[str, float]) -> None:
    """The architectures on the x axis, and above each the formats where there is room."""
    shown = sorted({group.architecture for group in groups})
    several = len({group.precision for group in groups}) > 1 and len(groups) <= NAMED
    ax.set_xticks([names.index(name) for name in shown], [style.words(name) for name in shown])
    if several:
        ax.set_xticks([place[group.lane] for group in groups], [group.precision for group in groups], minor=True, fontsize=8)
        ax.xaxis.remove_overlapping_locs = False  # the middle format stands where its architecture does
        ax.tick_params(axis="x", which="major", length=0, pad=16)
        ax.tick_params(axis="x", which="minor", length=2)
    ax.set_xlim(names.index(shown[0]) - 0.6, names.index(shown[-1]) + 0.6)
    ax.grid(axis="x", visible=False)
    if len(ax.get_yticks()):
        ax.yaxis.set_major_locator(MaxNLocator(6))


def _legend(formats: list[str], untimed: str, missed: bool) -> list[Line2D]:
    marks = [Line2D([], [], marker=MARKERS[f], linestyle="none", color=COLOURS[f], markersize=5.5, label=f) for f in formats]
    marks.append(Line2D([], [], color=style.GREY, linewidth=2, label="mean over seeds"))
    if untimed:
        marks.append(Line2D([], [], marker="o", linestyle="none", color=style.GREY, markerfacecolor="none",
                            markeredgewidth=1.1, markersize=5.5, label=f"hollow: {untimed}"))  # fmt: skip
    if missed:
        marks.append(Line2D([], [], label="target not reached", **MISSED))
    return marks


def _note_loads(ax: Axes, groups: list[Group], place: dict[str, float]) -> None:
    """Dead experts and the largest load of each lane, in the lower half of the panel."""
    lowest = 1.0
    for group in groups:
        health = [run.record.router_health for run in group.runs]
        lowest = min(lowest, *(h.worst_entropy_ratio for h in health))
        text = f"dead {max(h.dead for h in health)}, max load {max(h.max_load_percent for h in health):.1f}%"
        ax.annotate(text, (place[group.lane], 0.04), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8,
                    color="#505050", rotation=90)  # fmt: skip
    span = max(1 - lowest, 0.01)
    ax.set_ylim(1 - 4.4 * span, 1 + 0.2 * span)


def _caption(groups: list[Group], first: RunData, pairs: list[Paired]) -> str:
    counts = sorted({group.n for group in groups})
    emulated = [group.lane for group in groups if group.emulated]
    said = [
        f"Track {first.record.track}, scored on {first.scored_on}",
        f"a mark a seed, n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else ""),
        f"hardware class {first.record.speed_class}",
    ]
    if pairs:
        said.append(f"minus {BASE}: at equal seeds, in % of its {first.measure} of val; the whisker is the 95% interval of the "
                    "paired mean")  # fmt: skip
    if emulated:
        said.append(f"emulated, so no claim about speed: {', '.join(emulated)}")
    disturbed = [group for group in groups if group.disturbed and group.of_its_format]
    said += [f"no claim about speed: {group.lane}, {group.disturbed}" for group in disturbed]
    return "; ".join(said) + "."


def _unranked(groups: list[Group]) -> str | None:
    """Each reason once, with the lanes it holds for."""
    lanes: dict[str, list[str]] = {}
    for group in groups:
        lanes.setdefault(group.why_unranked or "", []).append(group.lane)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in lanes.items() if why) or None
