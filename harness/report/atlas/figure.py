"""`atlas.png`: a router's receipt on one page."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.record.atlas import Receipt, Span
from harness.report import style
from harness.report.atlas.text import name_of

ROW_IN = 2.7
DOTTED = (0, (1.5, 1.5))
LAYERS = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY, style.BLACK, style.GREY)
CHANNELS = {"router": style.GREEN, "inputs": style.BLUE, "biases": style.ORANGE, "all": style.BLACK}
WIDE = 0.1  # of an even share: a load below it has loads drawn by their logarithms
APART = 100  # times: mean margins further apart are drawn by their logarithms, as where scores of some layers saturate
MOST_CELLS = 64  # experts of a map
MOST_LAYERS = len(LAYERS)


def draw_atlas(receipt: Receipt, path: Path) -> Path:
    """Colours are layers, but for channels and maps."""
    m = receipt.index.model
    title = f"{receipt.index.run.lane}: where its router sends tokens, {m.experts} experts, top-{m.top_k}"
    return style.page(title, _caption(receipt), ROW_IN, [partial(draw, receipt=receipt) for draw in _panels(receipt)], path)


def shown_layers(receipt: Receipt) -> list[int]:
    """All, or evenly taken where colours run out."""
    layers = receipt.index.model.moe_layers
    some = np.linspace(0, len(layers) - 1, min(len(layers), MOST_LAYERS)).round().astype(int)
    return [layers[at] for at in some]


def _panels(receipt: Receipt) -> list[Callable[[Axes, Receipt], None]]:
    index = receipt.index
    found: list[Callable[[Axes, Receipt], None]] = [_occupancy, _loads, _said]
    if any(row.margin for row in index.settled):
        found.insert(0, _margins)
    found += [_turnover] if index.drift else []
    found += [_channels] if any(row.channels for row in index.drift) else []
    found += [_told] if index.told else []
    found += [_competes] if "score" in {name.rpartition("/")[2] for name in receipt.arrays} else []
    return found


def _caption(receipt: Receipt) -> str:
    index, shown = receipt.index, shown_layers(receipt)
    said = [
        name_of(index.run),
        f"{index.probe.tokens:,} tokens of {index.probe.of} in {index.probe.windows} windows, read in fp32 at steps "
        + ", ".join(f"{taken.step:,}" for taken in index.taken),
        "step 0 is the untrained model",
        "intervals are over windows, those of one panel hold together at 95%",
    ]
    if len(shown) < len(index.model.moe_layers):
        said.append(f"layers {', '.join(map(str, shown))} of {len(index.model.moe_layers)}")
    return "; ".join(said) + "."


def _over_steps(ax: Axes, receipt: Receipt, rows: list[tuple[int, int, Span | None]]) -> None:
    """`rows`: (layer, step, figure)."""
    for layer, colour in zip(shown_layers(receipt), LAYERS):
        known = [(step, found) for at, step, found in rows if at == layer and found]
        if not known:
            continue
        steps, figures = zip(*known)
        value, low, high = zip(*figures)
        ax.plot(steps, value, color=colour, marker="o", markersize=3, label=f"layer {layer}")
        ax.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _margins(ax: Axes, receipt: Receipt) -> None:
    _over_steps(ax, receipt, [(row.layer, row.step, row.margin and row.margin.mean) for row in receipt.index.settled])
    means = [row.margin.mean[0] for row in receipt.index.settled if row.margin]
    if 0 < min(means, default=0) * APART < max(means, default=0):
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.set_title("margins", loc="left")
    ax.set_ylabel("last chosen less next, mean score")


def _occupancy(ax: Axes, receipt: Receipt) -> None:
    _over_steps(ax, receipt, [(row.layer, row.step, row.effective) for row in receipt.index.settled])
    ax.axhline(receipt.index.model.experts, color=style.GREY, linewidth=1, linestyle=DOTTED)
    ax.set_ylim(0, receipt.index.model.experts * 1.05)
    ax.set_title("experts used (dotted: all there are)", loc="left")
    ax.set_ylabel("N_eff")


def _loads(ax: Axes, receipt: Receipt) -> None:
    m, last = receipt.index.model, receipt.steps[-1]
    even = receipt.index.probe.tokens * m.top_k / m.experts
    lowest = 1.0
    for layer, colour in zip(shown_layers(receipt), LAYERS):
        load_E = np.sort(receipt.of(last, layer, "load"))[::-1] / even
        share = np.arange(1, m.experts + 1) / m.experts
        seen = load_E > 0
        ax.step(load_E[seen], share[seen], where="post", color=colour, label=f"layer {layer}")
        lowest = min(lowest, float(load_E[seen].min(initial=1.0)))
    ax.axvline(1.0, color=style.GREY, linewidth=1, linestyle=DOTTED)
    if lowest < WIDE:
        ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("load over its even share")
    ax.set_ylabel("share of experts with as much")
    ax.set_title("loads at the end, as a CCDF", loc="left")


def _said(ax: Axes, receipt: Receipt) -> None:
    """What each expert adds, over its load."""
    m, last = receipt.index.model, receipt.steps[-1]
    even = receipt.index.probe.tokens * m.top_k / m.experts
    for layer, colour in zip(shown_layers(receipt), LAYERS):
        load_E, said_E = (receipt.of(last, layer, name) for name in ("load", "said"))
        chosen = load_E > 0
        ax.plot(load_E[chosen] / even, said_E[chosen], "o", color=colour, markersize=3)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("load over its even share")
    ax.set_ylabel("mean length of what it adds")
    ax.set_title("what experts add at the end", loc="left")


def _turnover(ax: Axes, receipt: Receipt) -> None:
    between = [row for row in receipt.index.drift if _adjacent(receipt, row.step, row.to)]
    _over_steps(ax, receipt, [(row.layer, row.to, row.jaccard) for row in between])
    steps = sorted({row.to for row in between})
    chance = [np.mean([row.control[0] for row in between if row.to == step and row.control]) for step in steps]
    ax.plot(steps, chance, color=style.GREY, linewidth=1, linestyle=DOTTED)
    ax.set_ylim(0, 1.03)
    ax.set_title("sets kept (dotted: of tokens apart)", loc="left")
    ax.set_ylabel("Jaccard with the checkpoint before")


def _channels(ax: Axes, receipt: Receipt) -> None:
    """Over the first and the last checkpoint, or the only pair that there is."""
    pairs = sorted({(row.step, row.to) for row in receipt.index.drift}, key=lambda pair: pair[0] - pair[1])
    begin, end = pairs[0]
    rows = [row for row in receipt.index.drift if (row.step, row.to) == (begin, end) and row.layer in shown_layers(receipt)]
    width = 0.8 / len(CHANNELS)
    for place, (name, colour) in enumerate(CHANNELS.items()):
        known = [(at, getattr(row.channels, name)) for at, row in enumerate(rows) if row.channels]
        known = [(at, found) for at, found in known if found]
        if not known:
            continue
        at, figures = zip(*known)
        value, low, high = (np.array(x) for x in zip(*figures))
        where = np.array(at) + (place - 1.5) * width
        ax.bar(where, value, width, color=colour, label=name)
        ax.errorbar(where, value, [value - low, high - value], fmt="none", ecolor=style.BLACK, elinewidth=0.8)
    ax.set_xticks(range(len(rows)), [str(row.layer) for row in rows])
    ax.set_xlabel("layer")
    ax.set_ylabel("share of sets exchanged")
    ax.set_ylim(0, max(1.0, ax.get_ylim()[1]))
    ax.set_title(f"what moved them, steps {begin:,} to {end:,}", loc="left")
    ax.legend(loc="upper left", ncols=4, columnspacing=1.0, handlelength=1.0)


def _adjacent(receipt: Receipt, step: int, to: int) -> bool:
    return receipt.steps.index(to) == receipt.steps.index(step) + 1


def _told(ax: Axes, receipt: Receipt) -> None:
    """Filled where above the control; hollow squares are the untrained model."""
    last, layers = receipt.steps[-1], shown_layers(receipt)
    plain = [row for row in receipt.index.told if not row.beyond_ids and row.layer in layers]
    labels = list(dict.fromkeys(row.of for row in plain))
    width = 0.8 / len(layers)
    for row in plain:
        where = labels.index(row.of) + (layers.index(row.layer) - (len(layers) - 1) / 2) * width
        colour = LAYERS[layers.index(row.layer)]
        if row.step == last:
            ax.plot([where] * 2, row.interval, color=colour, linewidth=1)
            ax.plot([where] * 2, row.control[1:], color=style.GREY, linewidth=3, alpha=0.5)
            ax.plot(where, row.information, linestyle="none", **style.dot(colour, "o", row.above))
        else:
            ax.plot(where, row.information, linestyle="none", **style.dot(colour, "s", False))
    slanted = {"rotation": 20, "ha": "right"} if len(labels) > 3 else {}
    ax.set_xticks(range(len(labels)), [style.words(label) for label in labels], **slanted)
    ax.set_xlim(-0.6, len(labels) - 0.4)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("nats an expert tells (grey: control)")
    ax.set_title("who is for what (square: untrained)", loc="left")


def _competes(ax: Axes, receipt: Receipt) -> None:
    """The last layer's."""
    m, last = receipt.index.model, receipt.steps[-1]
    layer, shown = m.moe_layers[-1], min(m.experts, MOST_CELLS)
    expert_NC = receipt.of(last, layer, "expert").astype(np.int64)
    if expert_NC.shape[1] <= m.top_k:
        ax.set_visible(False)
        return
    cell = expert_NC[:, m.top_k - 1] * m.experts + expert_NC[:, m.top_k]
    count_EE = np.bincount(cell, minlength=m.experts**2).reshape(m.experts, m.experts)
    busiest = np.sort(np.argsort(-(count_EE.sum(0) + count_EE.sum(1)), kind="stable")[:shown])
    share = count_EE[np.ix_(busiest, busiest)] / len(expert_NC)
    image = ax.imshow(100 * share, aspect="auto", interpolation="nearest", cmap="Blues", vmin=0)
    ax.figure.colorbar(image, ax=ax, pad=0.02, aspect=16).set_label("% of tokens")
    step = max(1, shown // 8)
    ax.set_xticks(range(0, shown, step), [str(e) for e in busiest[::step]])
    ax.set_yticks(range(0, shown, step), [str(e) for e in busiest[::step]])
    ax.set_xlabel("next expert")
    ax.set_ylabel("last one chosen")
    ax.set_title(f"who competes with whom, layer {layer}" + (f", {shown} busiest" if shown < m.experts else ""), loc="left")
    ax.grid(False)
