"""What every panel of bits per byte draws alike: the classical lines with their names, and a group's curve over its seeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from harness.record.schema import Line
from harness.report import style
from harness.report.groups import Group

LABEL_GAP = 0.058  # of the panel's height: one line of text

Lines = Mapping[str, Line]  # by id


def draw_lines(ax: Axes, lines: Lines, target_id: str) -> None:
    """A dashed level for each line; the target's stands out."""
    for line_id, line in lines.items():
        colour, width = (style.TARGET, 1.3) if line_id == target_id else (style.GREY, 0.9)
        ax.axhline(line.slice, color=colour, linewidth=width, linestyle=(0, (5, 2)), zorder=1.5)


def label_lines(ax: Axes, lines: Lines, target_id: str) -> None:
    """Names each line right of the panel. Call it once the y range is set."""
    low, high = ax.get_ylim()
    label_levels(ax, [
        Level(f"{line.label} {line.slice:.4f}", (line.slice - low) / (high - low), line_id == target_id)
        for line_id, line in lines.items()
    ])  # fmt: skip


class Level(NamedTuple):
    """A name for a height of a panel, of 0 at its bottom and 1 at its top."""

    text: str
    height: float
    stands_out: bool = False


def label_levels(ax: Axes, levels: Iterable[Level], gap: float = LABEL_GAP, points: float = 8) -> None:
    """Names right of the panel; those that would overlap, closer than `gap`, move apart and keep a leader."""
    ordered = sorted(levels, key=lambda level: level.height)
    for level, at in zip(ordered, spread([level.height for level in ordered], gap)):
        ax.annotate(
            style.words(level.text), (1.0, level.height), (1.05, at), "axes fraction", va="center", ha="left",
            fontsize=points, color=style.TARGET if level.stands_out else "#505050",
            weight="bold" if level.stands_out else "normal",
            annotation_clip=False, arrowprops={
                "arrowstyle": "-", "color": style.GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5),
            },
        )  # fmt: skip


def y_range(groups: Sequence[Group], lines: Lines) -> tuple[float, float]:
    """All validations and all lines, with a margin."""
    values = [p["slice_bpb"] for group in groups for run in group.runs for p in run.record.metrics.curve]
    values += [line.slice for line in lines.values()]
    margin = 0.06 * (max(values) - min(values)) or 0.1
    return min(values) - margin, max(values) + margin


def mean_curve(group: Group, x: str) -> tuple[list[float], list[float]]:
    """(x, bits per byte) of the mean over seeds at each validation; x is "tokens" or "train_s", a mean as well."""
    points = list(zip(*(run.record.metrics.curve for run in group.runs)))
    xs, ys = ([sum(p[key] for p in at) / len(at) for at in points] for key in (x, "slice_bpb"))
    return xs, ys


def draw_group(ax: Axes, group: Group, x: str, colour: str, marker: str, label: str) -> None:
    """The mean over seeds, and behind it each seed where there are several."""
    for run in group.runs if group.n > 1 else ():
        curve = run.record.metrics.curve
        ax.plot([p[x] for p in curve], [p["slice_bpb"] for p in curve], color=colour, linewidth=0.6, alpha=0.55, zorder=3)
    ax.plot(*mean_curve(group, x), color=colour, marker=marker, markersize=4.5, markeredgecolor="white", markeredgewidth=0.6,
            label=style.words(label), zorder=4)  # fmt: skip


def spread(wanted: list[float], gap: float) -> list[float]:
    """Moves ascending positions in [0, 1] to at least `gap` apart, each cluster staying centred on what it wanted."""
    clusters: list[list[float]] = []
    for position in wanted:
        clusters.append([position])
        while len(clusters) > 1 and _start(clusters[-1], gap) < _start(clusters[-2], gap) + gap * len(clusters[-2]) - 1e-12:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    return [_start(cluster, gap) + i * gap for cluster in clusters for i in range(len(cluster))]


def _start(cluster: list[float], gap: float) -> float:
    """The lowest position of a cluster of labels centred on the mean of the positions they wanted."""
    return sum(cluster) / len(cluster) - gap * (len(cluster) - 1) / 2
