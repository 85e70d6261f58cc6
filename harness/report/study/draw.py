"""The figure of a study: which one it is."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from harness.plan.study import Study
from harness.report import style
from harness.report.study.cost import draw_cost
from harness.report.study.frame import Case, cases_of
from harness.report.study.load import draw_load
from harness.report.study.rules import draw_rules
from harness.report.study.sweep import draw_sweep
from harness.report.study.time import draw_time
from harness.report.study.trials import Trial


def draw_study(study: Study, trials: Sequence[Trial], path: Path) -> Path:
    """All trials are of the study's lane; at least one."""
    draw: dict[str, Callable[[Study, list[Case]], Figure]] = {
        "load": draw_load, "sweep": draw_sweep, "time": draw_time, "rules": draw_rules,
        "cost": draw_cost,
    }  # fmt: skip
    with style.styled():
        return style.save(draw[study.figure](study, cases_of(study, trials)), path)
