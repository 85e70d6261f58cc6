"""The figure of `make profile`, from its JSON alone: the parts of a step, lane above twin, and the floor of each."""

from pathlib import Path
from typing import Any

from harness.report import style

THICK = 0.4  # of a bar, in lines
SHOWN = 1e-3  # of a step: what takes less in both is left out


def draw(found: dict[str, Any], path: Path) -> Path:
    """Bars: milliseconds of each part; a line across a bar is the floor that FLOPs and bytes allow."""
    ours, twin = found["steps"]
    there = {row["part"] for one in (ours, twin) for row in one["parts"] if row["ms"] >= SHOWN * one["wall_ms"]}
    parts = [part for part in found["parts"] if part in there]
    with style.styled():
        title = f"Where a step goes: {ours['name']} {ours['wall_ms']:,.0f} ms, {twin['name']} {twin['wall_ms']:,.0f} ms"
        fig = style.plain_figure(title, 0.9 + 0.37 * len(parts), _caption(found))
        ax = fig.subplots()
        for one, colour, offset in ((ours, style.THIS_RUN, -THICK / 2), (twin, style.TWIN, THICK / 2)):
            rows = {row["part"]: row for row in one["parts"]}
            for at, part in enumerate(parts):
                if part in rows:
                    _bar(ax, at + offset, rows[part], colour)
            ax.barh([-1], [0], color=colour, label=style.words(one["name"]))
        ax.plot([], [], color=style.BLACK, linewidth=2, label="floor: FLOPs over peak, or bytes over bandwidth")
        ax.set_yticks(range(len(parts)), [style.words(part) for part in parts])
        ax.set_ylim(len(parts) - 0.4, -0.6)
        ax.set_xlabel("ms of a step")
        ax.margins(x=0.22)
        ax.set_xlim(left=0)
        ax.grid(axis="y", visible=False)
        style.add_legend(fig, ax)
        return style.save(fig, path)


def _bar(ax: Any, at: float, row: dict[str, Any], colour: str) -> None:
    floor = row.get("floor_ms", 0.0)
    ax.barh(at, row["ms"], THICK * 0.92, color=colour)
    if floor:
        ax.plot([floor] * 2, [at - THICK / 2, at + THICK / 2], color=style.BLACK, linewidth=2, solid_capstyle="butt")
    text = f" {row['ms']:,.1f}" + (f"  ({row['ms'] / floor:,.1f}x floor)" if floor else "")
    ax.text(max(row["ms"], floor), at, text, va="center", fontsize=7.5)


def _caption(found: dict[str, Any]) -> str:
    where = found["hardware"]
    plain = " and ".join(f"{one['plain_ms']:,.0f}" for one in found["steps"])
    return (
        f"Measured on {found['hardware_class']}; means over the middle half of {found['rounds']} rounds in turns, under "
        f"torch.profiler ({plain} ms without it), parts of {SHOWN:.1%} and more; matmul peak "
        f"{where['matmul_peak_flops'] / 1e12:,.2f} TFLOP/s, memory {where['memory_bytes_per_s'] / 1e9:,.0f} GB/s, commit "
        f"{found['provenance']['commit'][:10]}."
    )
