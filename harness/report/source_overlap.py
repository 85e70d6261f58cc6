"""What the sources of a track give away of each other's val, as two tables in colours: word for word, and in other words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from harness.report import style

SHADES = "Blues"
DARK = 0.6  # of the scale: from here on a number is white


def draw(track: str, found: dict[str, Any], path: Path) -> Path:
    """`found`: a `SourceOverlap` (harness/data/source_overlap.py) as JSON data."""
    sources = found["sources"]
    shared_YX = 100 * np.array(found["shared_YX"])
    panels = [("bytes of val in 13-word sequences of train, %", "train of", shared_YX, sources)]
    note = "A byte counts where a sequence of 13 words that it stands in is in train of the other source too."
    if found["alone_Y"] is not None:
        saved_YX = 100 * (1 - np.array(found["given_val_YX"]) / np.array(found["given_train_YX"]))
        np.fill_diagonal(saved_YX, np.nan)
        labels = [f"{name}, {alone:.2f} bpb" for name, alone in zip(sources, found["alone_Y"])]
        panels.append(("bits that the same documents save, %", "the same documents in", saved_YX, labels))
        note += (
            " Bits: those of PPMd on val after val of the other source, which is the same documents, against PPMd after as many"
            " bytes of other documents of that source; beside a name, bits per byte of val by itself."
        )
    with style.styled():
        fig = style.plain_figure(f"{track}: what its sources give away of each other's val", 3.1, note)
        for ax, (title, across, value_YX, labels) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels):
            _table(ax, value_YX, sources, labels)
            ax.set(title=title, xlabel=across, ylabel="val of")
        return style.save(fig, path)


def _table(ax: Axes, value_YX: np.ndarray, columns: Sequence[str], rows: Sequence[str]) -> None:
    most = max(float(np.nanmax(value_YX)), 1e-9)
    ax.imshow(np.nan_to_num(value_YX), cmap=SHADES, vmin=0, vmax=most, aspect="auto")
    for (y, x), value in np.ndenumerate(value_YX):
        if not np.isnan(value):
            colour = "white" if value > DARK * most else style.BLACK
            ax.text(x, y, f"{value:.1f}", ha="center", va="center", color=colour)
    ax.set_xticks(range(len(columns)), [style.words(name) for name in columns])
    ax.set_yticks(range(len(rows)), [style.words(name) for name in rows])
    ax.grid(visible=False)
    ax.tick_params(length=0)
