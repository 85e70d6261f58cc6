"""Figures of `make bench`, from its JSON alone: contestants at each shape, throughput by rows per expert, a layer's stages,
decoding by batch, attentions by the length of a sequence, products by the ranks that experts are spread over."""

from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from harness.report import style

COLOURS = {
    "ours": style.BLUE, "grouped_mm": style.ORANGE, "loop": style.GREY, "liger-kernel": style.GREEN, "scattermoe": style.PURPLE,
    "sonic-moe": style.VERMILLION, "bound": style.BLACK,
}  # fmt: skip
STAGE_COLOURS = {
    "metadata": style.GREY, "gather": style.YELLOW, "up": style.BLUE, "activation": style.PURPLE, "down": style.SKY,
    "combine": style.GREEN, "dH": style.VERMILLION, "dW": style.ORANGE, "dX": "#A0522D", "fused": style.BLACK,
    "other": "#D9D9D9",
}  # fmt: skip
# the base's first
MIXER_COLOURS = (
    style.BLACK, style.BLUE, style.VERMILLION, style.GREEN, style.ORANGE, style.PURPLE, style.GREY, style.SKY, style.YELLOW,
)  # fmt: skip
WAYS = ("forward", "backward")


def colour(name: str) -> str:
    return next(shade for known, shade in COLOURS.items() if name.startswith(known))


def draw_kernels(found: dict[str, Any], path: Path) -> Path:
    """Bars: TFLOP/s of every contestant at every shape, forward and backward; the bound as a line over each shape."""
    tables = found["tables"]
    names = [row["name"] for row in tables[0]["rows"] if not row["is_bound"]]
    with style.styled():
        fig = style.plain_figure("Expert MLP: throughput of its products", 1.6 + 0.5 * len(tables), _caption(found))
        panels = fig.subplots(1, 2, sharey=True)
        thick = 0.8 / len(names)
        for ax, way in zip(panels, WAYS):
            for at, table in enumerate(tables):
                rows = {row["name"]: row for row in table["rows"] if f"{way}_tflops" in row}
                for i, name in enumerate(names):
                    if name in rows:
                        label = name if at == 0 else None
                        ax.barh(at + (i - (len(names) - 1) / 2) * thick, rows[name][f"{way}_tflops"], thick * 0.9,
                                color=colour(name), label=label)  # fmt: skip
                for row in rows.values():
                    if row["is_bound"]:
                        value = row[f"{way}_tflops"]
                        ax.plot([value] * 2, [at - 0.45, at + 0.45], color=style.BLACK, linewidth=1.2,
                                label=row["name"] if at == 0 else None)  # fmt: skip
            ax.set_title(way)
            ax.set_xlabel("TFLOP/s")
            ax.set_yticks(range(len(tables)), [_name(table["shape"]) for table in tables])
            ax.grid(axis="y", visible=False)
        panels[0].invert_yaxis()
        style.add_legend(fig, panels[0], 4)
        return style.save(fig, path)


def draw_rows(found: dict[str, Any], path: Path) -> Path:
    """Lines: TFLOP/s against rows per expert."""
    with style.styled():
        fig = style.plain_figure("The same rows spread over ever more experts", 2.9, _caption(found))
        panels = fig.subplots(1, 2, sharey=True)
        for ax, way in zip(panels, WAYS):
            for name in [row["name"] for row in found["tables"][0]["rows"]]:
                points = [
                    (table["shape"]["T"] * table["shape"]["K"] / table["shape"]["E"], row[f"{way}_tflops"])
                    for table in found["tables"]
                    for row in table["rows"]
                    if row["name"] == name and f"{way}_tflops" in row
                ]
                if points:
                    dashes = {"linestyle": (0, (4, 2))} if name.startswith("bound") else {"marker": "o", "markersize": 3}
                    ax.plot(*zip(*points), color=colour(name), label=name, **dashes)
            _rows_axis(ax, found)
            ax.set_title(way)
        panels[0].set_ylabel("TFLOP/s")
        style.add_legend(fig, panels[0], 4)
        return style.save(fig, path)


def _rows_axis(ax: Axes, found: dict[str, Any]) -> None:
    shapes = [table["shape"] for table in found["tables"]]
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xticks([s["T"] * s["K"] / s["E"] for s in shapes], [f"{s['T'] * s['K'] // s['E']:,}\n{s['E']}" for s in shapes])
    ax.minorticks_off()
    ax.tick_params(axis="x", labelsize=7)
    ax.set_xlabel("rows per expert, experts below")


def draw_layer(found: dict[str, Any], path: Path) -> Path:
    """Stacked bars: milliseconds of each stage, forward above backward at every shape."""
    tables = found["tables"]
    with style.styled():
        fig = style.plain_figure("Where the time of one expert MLP goes", 1.2 + 0.55 * len(tables), _caption(found))
        ax = fig.subplots()
        shown: set[str] = set()
        for at, table in enumerate(tables):
            for way, offset in zip(WAYS, (-0.2, 0.2)):
                left = 0.0
                for stage, value in table["stages_ms"][way].items():
                    ax.barh(at + offset, value, 0.36, left=left, color=STAGE_COLOURS[stage],
                            label=None if stage in shown else stage)  # fmt: skip
                    shown.add(stage)
                    left += value
                ax.text(left, at + offset, f" {way} {left:,.2f} ms", va="center", fontsize=7.5)
        ax.set_yticks(range(len(tables)), [_name(table["shape"]) for table in tables])
        ax.set_xlabel("ms")
        ax.margins(x=0.16)
        ax.set_xlim(left=0)
        ax.grid(axis="y", visible=False)
        ax.invert_yaxis()
        style.add_legend(fig, ax, 5)
        return style.save(fig, path)


def draw_decode(found: dict[str, Any], path: Path) -> Path:
    """Tokens a second against the batch, reading and writing; a MoE's point says how many experts it touches."""
    names = list(dict.fromkeys(row["name"] for row in found["rows"]))
    with style.styled():
        fig = style.plain_figure("Reading a prompt, and writing after it", 2.9, _caption(found))
        panels = fig.subplots(1, 2)
        for ax, (key, title) in zip(panels, (("prefill_tokens_s", "reading"), ("decode_tokens_s", "writing"))):
            for name, shade in zip(names, (style.BLUE, style.ORANGE)):
                rows = [row for row in found["rows"] if row["name"] == name]
                ax.plot([row["batch"] for row in rows], [row[key] for row in rows], color=shade, label=name, marker="o")
                for row in rows if key == "decode_tokens_s" else ():
                    if row["experts_touched"] is not None:
                        said = f"{row['experts_touched']:.0f}"
                        ax.annotate(said, (row["batch"], row[key]), (0, -11), textcoords="offset points", fontsize=7.5)
            batches = sorted({row["batch"] for row in found["rows"]})
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_xticks(batches, [str(batch) for batch in batches])
            ax.minorticks_off()
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            ax.margins(y=0.15)
            ax.set_title(title)
            ax.set_xlabel("rows a batch" + (" (numbers: experts touched a layer)" if key == "decode_tokens_s" else ""))
        panels[0].set_ylabel("tokens/s")
        style.add_legend(fig, panels[0], 2)
        return style.save(fig, path)


def draw_mixers(found: dict[str, Any], path: Path) -> Path:
    """Time a token against the length of a sequence, with the points where curves cross the base's; bytes cached beside it."""
    model, base = found["model"], found["base"]
    timed = [row for row in found["rows"] if "left_out" not in row]
    names = [base, *(name for name in dict.fromkeys(row["name"] for row in timed) if name != base)]
    shades = dict(zip(names, cycle(MIXER_COLOURS)))
    text = (
        f"{_caption(found)} Width {model['width']}, {model['heads']} heads, {found['tokens']:,} tokens a pass, "
        f"attentions {'compiled' if found['compiled'] else 'not compiled'}. Rings: where a curve crosses {base}, interpolated. "
        "Hollow: counted, the part does not decode. Dashed: a mean of the plan's layers."
        + (f" With {', '.join(found['turned'])}." if found["turned"] else "")
    )
    with style.styled():
        fig = style.plain_figure(f"Attentions of {found['lane']} by the length of a sequence", 3.3, text)
        panels = fig.subplots(1, 2)
        for ax, key in zip(panels, ("us_per_token", "cached_bytes")):
            for at, (name, shade) in enumerate(shades.items()):
                rows = [row for row in timed if row["name"] == name and row[key] > 0]
                hollow = key == "cached_bytes" and any(row["counted"] for row in rows)
                dashes = {"linestyle": (0, (4, 2))} if any(row.get("derived") for row in rows) else {}
                ax.plot(
                    [row["length"] for row in rows], [row[key] for row in rows], color=shade, label=style.words(name),
                    marker="o", markersize=max(8 - at, 3),  # of two that coincide both show
                    markerfacecolor="white" if hollow else shade, **dashes,
                )  # fmt: skip
        _crossings(panels[0], found["crossings"], shades)
        cached = max((row["cached_bytes"] for row in timed), default=0)
        _lengths_axis(panels[0], found["lengths"], "forward and backward, µs a token", bool(timed))
        _lengths_axis(panels[1], found["lengths"], "cached of a sequence, bytes", cached > 0)
        style.add_legend(fig, panels[0], 4)
        return style.save(fig, path)


def _lengths_axis(ax: Axes, lengths: list[int], title: str, has_values: bool) -> None:
    """`has_values`: without any there is no logarithm of them."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(lengths, [f"{length:,}" for length in lengths])
    ax.minorticks_off()
    if has_values:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(style.MAGNITUDE)
        ax.yaxis.set_minor_locator(NullLocator())
    ax.set_title(title)
    ax.set_xlabel("tokens of a sequence")


def _crossings(ax: Axes, crossings: list[dict[str, Any]], shades: dict[str, str]) -> None:
    points = sorted((point["length"], point["us_per_token"], each["name"]) for each in crossings for point in each["at"])
    for at, (length, cost, name) in enumerate(points):
        ax.plot(length, cost, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=shades[name], zorder=4)
        above = at % 2 == 0  # in turns, so that neighbours do not lie on each other
        ax.annotate(
            f"{style.words(name)} {length:,.0f}", (length, cost), (0, 9 if above else -9), textcoords="offset points",
            ha="center", va="bottom" if above else "top", fontsize=7.5, color=shades[name],
        )  # fmt: skip


def draw_transport(found: dict[str, Any], path: Path) -> Path:
    """TFLOP/s of the products against rows an expert, a point for each number of ranks; what a token sends beside it."""
    shape, timed = found["shape"], [row for row in found["rows"] if "left_out" not in row]
    peak = found["hardware"]["matmul_peak_flops"] / 1e12
    text = (
        f"{_caption(found)} Width {shape['D']}, {shape['E']} experts of {shape['F']}, top-{shape['K']}, uniform routing, "
        f"{shape['T']:,} tokens a rank however many there are; {found['backend']}. One process plays all ranks: an owner takes "
        "the rows of all sources at once, and nothing is measured of wires."
    )
    with style.styled():
        fig = style.plain_figure(f"Experts of {found['lane']} spread over ranks", 3.1, text)
        rates, sent = fig.subplots(1, 2)
        rows = [row["rows_an_expert"] for row in timed]
        for way, shade in zip(WAYS, (style.BLUE, style.ORANGE)):
            rates.plot(rows, [row[f"{way}_tflops"] for row in timed], color=shade, label=way, marker="o")
        rates.axhline(peak, color=style.BLACK, linestyle=(0, (4, 2)), linewidth=1.2, label="peak of products")
        _powers(rates, rows, [f"{row['rows_an_expert']:,.0f}\n{row['ranks']}" for row in timed])
        rates.set_ylim(0, 1.1 * max([peak, *(row[f"{way}_tflops"] for row in timed for way in WAYS)]))
        rates.set_xlabel("rows an expert, ranks below")
        rates.set_title("products, TFLOP/s")
        ranks = [row["ranks"] for row in timed]
        for of, share, shade in (("handed over", False, style.GREY), ("leaves the rank", True, style.VERMILLION)):
            ends = [row["sent_a_token"] * (row["leaves"] if share else 1) for row in timed]
            sent.plot(ranks, ends, color=shade, label=of, marker="o")
        for row in timed:
            place = (row["ranks"], row["sent_a_token"] * row["leaves"])
            sent.annotate(f"{row['leaves']:.0%}", place, (0, -12), textcoords="offset points", ha="center", fontsize=7.5)
        _powers(sent, ranks, [str(number) for number in ranks])
        sent.yaxis.set_major_formatter(style.MAGNITUDE)
        sent.set_ylim(bottom=-0.1 * max((row["sent_a_token"] for row in timed), default=1))
        sent.set_xlabel("ranks")
        sent.set_title("bytes a token, forward and backward")
        style.add_legend(fig, rates, 5, sent.get_legend_handles_labels()[0])
        return style.save(fig, path)


def _powers(ax: Axes, places: list[float], labels: list[str]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(places, labels)
    ax.minorticks_off()


def _name(shape: dict[str, Any]) -> str:
    return f"{shape['T']} x {shape['D']}\n{shape['E']} x {shape['F']}, top-{shape['K']}"


def _caption(found: dict[str, Any]) -> str:
    where = found["hardware"]
    missing = ", ".join(f"{name} ({why})" for name, why in found.get("missing", {}).items())
    precision = {"native": "bf16", "full": "fp32", "emulated": "bf16 emulated"}[found["precision"]]
    return (
        f"Measured on {found['hardware_class']}; {precision}, medians of {found['rounds']} rounds in turns, matmul peak "
        f"{where['matmul_peak_flops'] / 1e12:,.2f} TFLOP/s, commit {found['provenance']['commit'][:10]}."
        + (f" Not timed: {missing}." if missing else "")
    )


DRAWINGS = {
    "kernels": draw_kernels, "rows": draw_rows, "layer": draw_layer, "decode": draw_decode, "mixers": draw_mixers,
    "transport": draw_transport,
}  # fmt: skip
