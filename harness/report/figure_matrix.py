"""`matrix.png`: the lanes of a track side by side: seconds to target, bits per byte, evenness of routing; a dot a seed."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.report import style
from harness.report.groups import Group
from harness.report.run_data import RunData

COLOURS = {"bf16": style.BLUE, "fp8": style.VERMILLION, "nvfp4": style.PURPLE, "fp32": style.BLACK}
HALF = 0.11  # of a mean's bar, and between precisions of one architecture


def architecture(group: Group) -> str:
    """The lane's name without its precision."""
    return group.lane.removesuffix(f"-{precision(group)}")


def precision(group: Group) -> str:
    return group.first["precision"]["format"]


def draw_matrix(groups: list[Group], path: Path) -> Path:
    """All groups are of one track, protocol and hardware class; at least one."""
    first, formats = groups[0].runs[0], sorted({precision(group) for group in groups}, key=list(COLOURS).index)
    names = sorted({architecture(group) for group in groups})
    place = {
        group.lane: names.index(architecture(group)) + 2.4 * HALF * (formats.index(precision(group)) - (len(formats) - 1) / 2)
        for group in groups
    }
    with style.styled():
        unranked = _unranked(groups)
        caution = f"unranked: {unranked}" if unranked else ""
        fig = style.plain_figure(f"track {first.record['track']}: lanes side by side", 3.1, _caption(groups, first), caution)
        moe = [group for group in groups if all(run.record["router_health"] for run in group.runs)]
        panels = fig.subplots(1, 3 if moe else 2)
        _panel(panels[0], groups, place, "seconds to target", lambda run: run.record["metrics"]["time_to_target_s"])
        _panel(panels[1], groups, place, "bits per byte of the slice", lambda run: run.record["metrics"]["slice_bpb"])
        target = first.target
        if not first.is_partial and target and target.metric == "slice_bpb":
            label = f"target: {target.label} {target.level:.4f}"
            panels[1].axhline(target.level, color=style.TARGET, linewidth=1.3, linestyle=(0, (5, 2)), label=label)
        if moe:
            _panel(
                panels[2], moe, place, "worst entropy / ln E", lambda run: run.record["router_health"]["worst_entropy_ratio"]
            )
            _note_loads(panels[2], moe, place)
        for ax in panels:
            shown = sorted({architecture(group) for group in (moe if ax is panels[-1] and moe else groups)})
            ax.set_xticks([names.index(name) for name in shown], shown)
            ax.set_xlim(names.index(shown[0]) - 0.6, names.index(shown[-1]) + 0.6)
            ax.grid(axis="x", visible=False)
            ax.yaxis.set_major_locator(MaxNLocator(6))
        panels[0].set_ylim(bottom=0)
        if all(run.record["metrics"]["time_to_target_s"] is None for group in groups for run in group.runs):
            panels[0].set_yticks([])
        for name in formats:
            panels[1].plot([], [], marker="o", linestyle="none", color=COLOURS[name], label=name)
        panels[1].plot([], [], color=style.GREY, linewidth=2, label="mean over seeds")
        style.add_legend(fig, panels[1])
        return style.save(fig, path)


def _panel(
    ax: Axes, groups: list[Group], place: dict[str, float], title: str, value: Callable[[RunData], float | None]
) -> None:
    ax.set_title(title, loc="left")
    for group in groups:
        x, colour = place[group.lane], COLOURS[precision(group)]
        values = [value(run) for run in group.runs]
        found = [v for v in values if v is not None]
        if found:
            mean = sum(found) / len(found)
            ax.plot([x - HALF, x + HALF], [mean, mean], color=style.GREY, linewidth=2, zorder=2)
            ax.plot([x] * len(found), found, marker="o", markersize=5, linestyle="none", color=colour,
                    markeredgecolor="white", markeredgewidth=0.6, zorder=3)  # fmt: skip
        if len(found) < len(values):
            missing = "not reached" if not found else f"{len(values) - len(found)} not reached"
            ax.annotate(missing, (x, 0.04), xycoords=("data", "axes fraction"), ha="center", fontsize=8, color=style.WARNING,
                        rotation=90, va="bottom")  # fmt: skip
    ax.margins(y=0.25)


def _note_loads(ax: Axes, groups: list[Group], place: dict[str, float]) -> None:
    """Dead experts and the largest load of each lane, in the lower half of the panel."""
    lowest = 1.0
    for group in groups:
        health = [run.record["router_health"] for run in group.runs]
        lowest = min(lowest, *(h["worst_entropy_ratio"] for h in health))
        text = f"dead {max(h['dead'] for h in health)}, max load {max(h['max_load_percent'] for h in health):.1f}%"
        ax.annotate(text, (place[group.lane], 0.04), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8,
                    color="#505050", rotation=90)  # fmt: skip
    span = max(1 - lowest, 0.01)
    ax.set_ylim(1 - 3.4 * span, 1 + 0.2 * span)


def _caption(groups: list[Group], first: RunData) -> str:
    counts = sorted({group.n for group in groups})
    emulated = [group.lane for group in groups if group.emulated]
    said = [
        f"Track {first.record['track']}, scored on {first.scored_on}",
        f"a dot a seed, n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else ""),
        f"hardware class {first.record['hardware_class']}",
    ]
    if emulated:
        said.append(f"emulated, so no claim about speed: {', '.join(emulated)}")
    return "; ".join(said) + "."


def _unranked(groups: list[Group]) -> str | None:
    """Each reason once, with the lanes it holds for."""
    lanes: dict[str, list[str]] = {}
    for group in groups:
        lanes.setdefault(group.why_unranked or "", []).append(group.lane)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in lanes.items() if why) or None
