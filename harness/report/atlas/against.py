"""What the routers of two runs share, in words and on one page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.record.atlas import Atlas, AtlasRun
from harness.report import style
from harness.report.aligned import aligned
from harness.report.atlas.text import ABOVE, NOT, name_of, span

HEIGHT_IN = 3.4
KINDS = {  # what is drawn of a row: its name, colour, marker
    "matched": ("the same experts, renamed", style.BLUE, "o"), "numbered": ("by their numbers", style.GREEN, "^"),
    "windows": ("control: other windows", style.GREY, "s"), "ids": ("control: other tokens of the id", style.ORANGE, "D"),
}  # fmt: skip
MOST_PAIRS = 5  # of a layer, that are named

Found = dict[str, Any]  # as harness/evaluate/atlas/matched.py makes it


def short_name(index: Atlas) -> str:
    return f"{index.run.lane}-{index.run.seed}-{index.run.plan_hash[:8]}"


def said_of(found: Found) -> str:
    return "\n".join(_lines(found)) + "\n"


def _runs(found: Found) -> tuple[str, str]:
    one, other = (name_of(AtlasRun(**run)) for run in found["runs"])
    return one, other


def _lines(found: Found) -> Iterator[str]:
    one, other = _runs(found)
    probe, top_k, experts = found["probe"], found["model"]["top_k"], found["model"]["experts"]
    yield f"the routers of {one} and {other}"
    yield f"  on the same {probe['tokens']:,} tokens in {probe['windows']} windows; intervals over windows hold together at 95%"
    yield ""
    yield "Shares of a token's set that the other run's has too"
    rows = (
        (_steps(row), str(row["layer"]), *(span(row[kind], "{:.3f}") for kind in KINDS), ABOVE if row["above"] else NOT)
        for row in found["rows"]
    )
    yield from aligned(("step", "layer", *(name for name, _, _ in KINDS.values()), " "), rows, last_left=True)
    yield f"  sets drawn by chance would share {top_k / experts:.3f}. Experts are renamed by one half of the windows, and"
    yield "  counted on the other half. What two untrained models share (step 0) is no result of training."
    yield ""
    yield "Who is who at the end: this run's expert, the other's, and the Jaccard of the tokens that they take"
    for row in found["pairs"]:
        named = ", ".join(f"{mine} is {theirs} ({both:.2f})" for mine, theirs, both in row["pairs"][:MOST_PAIRS])
        yield f"  layer {row['layer']}: {named}" + (" ..." if len(row["pairs"]) > MOST_PAIRS else "")


def _steps(row: dict[str, Any]) -> str:
    if row["step"] == 0:
        return "untrained"
    return f"{row['step']:,}" if row["step"] == row["to"] else f"{row['step']:,} and {row['to']:,}"


def draw_against(found: Found, path: Path) -> Path:
    one, other = _runs(found)
    with style.styled():
        fig = style.plain_figure(
            "what two routers share", HEIGHT_IN,
            f"{one}; {other}; {found['probe']['tokens']:,} tokens in {found['probe']['windows']} windows; experts are renamed "
            "by one half of the windows and counted on the other; hollow: the untrained models; intervals over windows.",
        )  # fmt: skip
        left, right = fig.subplots(1, 2)
        _shares(left, found)
        _pairs(right, found)
        style.add_legend(fig, left, columns=4)
        return style.save(fig, path)


def _shares(ax: Axes, found: Found) -> None:
    layers, last = found["model"]["moe_layers"], found["rows"][-1]["step"]
    for place, (kind, (name, colour, marker)) in enumerate(KINDS.items()):
        for row in found["rows"]:
            if row[kind] is None or row["step"] not in (0, last) or (row["step"] == 0 and kind != "matched"):
                continue
            where = layers.index(row["layer"]) + (place - 1.5) * 0.18 - (0.09 if row["step"] == 0 else 0)
            value, low, high = row[kind]
            ax.plot([where] * 2, [low, high], color=colour, linewidth=1)
            ax.plot(where, value, linestyle="none", **style.dot(colour, marker, row["step"] != 0))
        ax.plot([], [], linestyle="none", label=name, **style.dot(colour, marker, True))
    ax.set_xticks(range(len(layers)), map(str, layers))
    ax.set_xlabel("layer")
    ax.set_ylabel("share of a set")
    ax.set_ylim(0, 1.03)
    ax.set_title("sets in common at the end", loc="left")


def _pairs(ax: Axes, found: Found) -> None:
    colours = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY, style.BLACK, style.GREY)
    for row, colour in zip(found["pairs"], colours):
        both = np.array([pair[2] for pair in row["pairs"]])
        ax.plot(range(1, len(both) + 1), both, color=colour, label=f"layer {row['layer']}")
    ax.set_ylim(0, 1.03)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.legend(loc="upper right")
    ax.set_xlabel("pairs of experts, best first")
    ax.set_ylabel("Jaccard of their tokens")
    ax.set_title("who is who", loc="left")
