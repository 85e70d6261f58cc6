"""How every figure of the project looks: sizes, colours, number formats, and the caption that says what was measured.

Figures are 8 inches wide at 110 dpi, 880 px: as wide as a README shows them, where 9 pt is 13 px high. Nothing
here touches matplotlib's global state or a display: figures are `Figure` objects on the Agg canvas, drawn within `styled()`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harness.files import whole
from harness.report.run_data import RunData
from harness.shown import one_line

WIDTH_IN, DPI = 8.0, 110
CAPTION_PT, CAPTION_LINE_IN, CAPTION_CHARS = 8, 0.155, 136
TITLE_IN, LEGEND_IN = 0.3, 0.25

# Okabe and Ito, "Color Universal Design" (2008): distinguishable with every common colour-vision deficiency.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#8A8A8A"

THIS_RUN, TWIN, TARGET, LOSS, WARNING = BLUE, ORANGE, GREEN, SKY, VERMILLION
GROUPS = {
    "dense": BLUE, "expert": VERMILLION, "router": GREEN, "embedding": PURPLE, "head": ORANGE, "norm": BLACK,
    "scalar": SKY, "table": GREY,
}  # fmt: skip

_STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5, "legend.fontsize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.linewidth": 0.8, "lines.linewidth": 1.6, "legend.frameon": False,
}  # fmt: skip


@contextmanager
def styled() -> Iterator[None]:
    """The style, whatever the user's matplotlibrc says; figures are created and saved inside."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def words(value: object) -> str:
    """Other people's words for a figure: to matplotlib a pair of $ is mathematics, and a label with _ in front no label."""
    said = one_line(value).replace("$", r"\$")
    return f" {said}" if said.startswith("_") else said


def new_figure(run: RunData, title: str, height_in: float, *notes: str) -> Figure:
    """A figure with title and caption in place; `height_in` is what lies between them. `notes` end the caption."""
    warning = f"unranked: {run.why_unranked}" if run.why_unranked else ""
    return plain_figure(f"{run.record.lane}: {title}", height_in, caption(run, *notes), warning)


def plain_figure(title: str, height_in: float, text: str, caution: str = "") -> Figure:
    """A figure of any runs: title above, `text` below, `caution` in the warning colour between."""
    lines = wrap(words(text), CAPTION_CHARS)
    warning = wrap(words(caution), CAPTION_CHARS - 20)
    below_in = CAPTION_LINE_IN * (len(lines) + len(warning)) + 0.1
    total_in = TITLE_IN + height_in + below_in
    fig = Figure(figsize=(WIDTH_IN, total_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(fig)
    fig.get_layout_engine().set(rect=(0, below_in / total_in, 1, height_in / total_in), w_pad=0.06, h_pad=0.05)
    fig.text(0.01, 1 - 0.06 / total_in, words(title), va="top", fontsize=11, weight="bold")
    place = {"x": 0.01, "va": "top", "ha": "left", "fontsize": CAPTION_PT, "linespacing": 1.25}
    if warning:
        fig.text(y=below_in / total_in, s="\n".join(warning), color=WARNING, weight="bold", **place)
    caption_top_in = below_in - CAPTION_LINE_IN * len(warning)
    fig.text(y=caption_top_in / total_in, s="\n".join(lines), color="#505050", **place)
    return fig


def page(title: str, caption: str, row_in: float, draws: Sequence[Callable[[Axes], None]], path: Path) -> Path:
    """Panels in two columns, each drawn by one of `draws`, with one legend for all: what the first panel labels."""
    rows = -(-len(draws) // 2)
    with styled():
        fig = plain_figure(title, row_in * rows + 0.5, caption)
        axes = list(fig.subplots(rows, 2, squeeze=False).flat)
        for ax, draw in zip(axes, draws):
            draw(ax)
        for ax in axes[len(draws) :]:
            ax.set_visible(False)
        add_legend(fig, axes[0], columns=8)
        return save(fig, path)


def add_legend(fig: Figure, ax: Axes, columns: int | None = None, extra: Sequence[Artist] = ()) -> None:
    """One row, or rows of `columns` (fewer in a figure too narrow for them), between title and panels, for all panels:
    what `ax` labels, then `extra`."""
    handles, labels = ax.get_legend_handles_labels()
    handles, labels = [*handles, *extra], [*labels, *(str(artist.get_label()) for artist in extra)]
    columns = columns or len(labels)
    top_in = fig.get_size_inches()[1] - TITLE_IN
    while True:
        legend = fig.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(0.007, top_in / fig.get_size_inches()[1]), ncols=columns,
            borderaxespad=0, borderpad=0.2, columnspacing=1.4, handlelength=1.8,
        )  # fmt: skip
        if columns <= 1 or legend.get_window_extent().x1 <= fig.bbox.x1:
            break
        legend.remove()
        columns -= 1
    engine = fig.get_layout_engine()
    left, bottom, width, height = engine.get()["rect"]
    rows = -(-len(labels) // columns)
    engine.set(rect=(left, bottom, width, height - rows * LEGEND_IN / fig.get_size_inches()[1]))


def dot(colour: str, marker: str, whole: bool) -> dict[str, object]:
    """How one run is drawn where dots are runs: hollow unless it is `whole`."""
    face, edge, width = (colour, "white", 0.6) if whole else ("white", colour, 1.4)
    return {"marker": marker, "markersize": 6, "markerfacecolor": face, "markeredgecolor": edge, "markeredgewidth": width}


def caption(run: RunData, *notes: str) -> str:
    """One run is one run: its track, precision, seed with n = 1, plan and hardware class; `notes` name the protocol."""
    record = run.record
    emulated = " (emulated)" if record.precision.execution == "emulated" else ""
    return "; ".join([
        f"Track {record.track}, {record.precision.format}{emulated}, seed {record.seed} (n = 1), plan "
        f"{record.plan_hash[:8]}, hardware class {record.speed_class}", *notes,
    ]) + "."  # fmt: skip


def save(fig: Figure, path: Path) -> Path:
    """Writes a PNG that depends on its content alone (no date, no version), whole or not at all."""
    with whole(path) as part:
        fig.savefig(part, format="png", metadata={"Software": None})
    return path


def magnitude(value: float, _position: object = None) -> str:
    """1572864 -> 1.57M, for ticks and labels."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


MAGNITUDE = FuncFormatter(magnitude)
