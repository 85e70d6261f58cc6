"""Records into figures, tables, pages and verdicts; never torch.

In a notebook: `import harness.report; runs = harness.report.load("results/")`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.frames import Frames


def load(folder: str | Path) -> "Frames":
    """Every finished run below `folder` as pandas frames: `records`, `curves`, `steps`, `expert_counts`, and `problems`.

    Raises:
        UserError: the folder does not exist, or pandas is not installed.
    """
    from harness.report.frames import load_frames

    return load_frames(folder)
