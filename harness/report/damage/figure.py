"""What interfering with a run's routers cost, as one page of panels."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes

from harness.record.damaged import Damage, Interference, Transplant, at_once
from harness.report import style
from harness.report.atlas.text import name_of

COLOURS = {"coldest": style.BLUE, "random": style.BLACK, "busiest": style.VERMILLION}
LAYERS = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY)
ROW_IN = 2.6
UNIT = "nats a token more"


def draw_damage(found: Damage, path: Path) -> Path:
    experts = f"{found.model.experts} experts, top-{found.model.top_k}"
    caption = (
        f"{experts}; {found.probe.tokens:,} tokens of {found.probe.of} in {found.probe.windows} windows, bars are 95% "
        "intervals over windows; a share of experts of all MoE layers at once; weights and biases of routers are put in, "
        "their step beside the cost"
    )
    draws: list[Callable[[Axes], None]] = [
        partial(_by_share, rows=[row for row in at_once(found.interferences) if row.what == what], title=title)
        for what, title in (("removed", "experts never chosen"), ("exchanged", "experts in each other's place"))
    ]
    if found.transplants:
        draws += [partial(_by_step, rows=found.transplants), partial(_by_drift, rows=found.transplants)]
    return style.page(f"interfering with the routers of {name_of(found.run)}", caption, ROW_IN, draws, path)


def _by_share(ax: Axes, rows: Sequence[Interference], title: str) -> None:
    for which, colour in COLOURS.items():
        some = [row for row in rows if row.which == which and row.nats]
        ax.errorbar(
            [100 * row.share for row in some], [row.nats[0] for row in some], yerr=_reach(some), color=colour, marker="o",
            markersize=4, linewidth=1.2, label=which,
        )  # fmt: skip
    ax.axhline(0, color=style.GREY, linewidth=0.8)
    ax.set_title(title if rows else f"{title}: no next best", loc="left")
    ax.set_xlabel("share of the experts, %")
    ax.set_ylabel(UNIT)


def _by_step(ax: Axes, rows: Sequence[Transplant]) -> None:
    for layer, colour in _layers(rows).items():
        some = [row for row in rows if row.layer == layer and row.nats]
        ax.errorbar(
            [row.step for row in some], [row.nats[0] for row in some], yerr=_reach(some), color=colour, marker="o",
            markersize=4, linewidth=1.2, label="all layers" if layer is None else f"layer {layer}",
        )  # fmt: skip
    ax.axhline(0, color=style.GREY, linewidth=0.8)
    ax.set_title("the router of an earlier step (0: untrained)", loc="left")
    ax.set_xlabel("its step")
    ax.set_ylabel(UNIT)
    ax.legend(loc="upper right", fontsize=8)


def _by_drift(ax: Axes, rows: Sequence[Transplant]) -> None:
    for layer, colour in _layers(rows).items():
        some = [row for row in rows if row.layer == layer and row.nats]
        ax.plot(
            [row.foretold["router"] for row in some], [row.nats[0] for row in some], linestyle="none",
            **style.dot(colour, "o", True),
        )  # fmt: skip
    ax.axhline(0, color=style.GREY, linewidth=0.8)
    ax.set_title("by the experts that it exchanges", loc="left")
    ax.set_xlabel("share of chosen experts")
    ax.set_ylabel(UNIT)


def _layers(rows: Sequence[Transplant]) -> dict[int | None, str]:
    layers = sorted({row.layer for row in rows if row.layer is not None})
    found: dict[int | None, str] = {layer: LAYERS[at % len(LAYERS)] for at, layer in enumerate(layers)}
    return found | ({None: style.BLACK} if any(row.layer is None for row in rows) else {})


def _reach(rows: Sequence[Interference | Transplant]) -> list[list[float]]:
    return [[row.nats[0] - row.nats[1] for row in rows], [row.nats[2] - row.nats[0] for row in rows]]
