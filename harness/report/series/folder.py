"""A series' folder: records as in a study's, points named in study.json, with table, figure and numbers of the law."""

from collections.abc import Sequence
from pathlib import Path

from harness.plan.series import Series
from harness.plan.study import Study
from harness.report.series.points import Point, in_order, point_of
from harness.report.series.table import points_table
from harness.report.study.folder import publish, write_numbers
from harness.report.study.table import Verdicts
from harness.report.study.trials import Trial


def points_in(series: Series, trials: Sequence[Trial]) -> list[Point]:
    """The points that trials stand for; a run that health stopped is none."""
    places = {
        series.point_name(family, size, budget): (family, size, budget)
        for family in series.families
        for size in series.sizes
        for budget in series.all_budgets
    }
    return in_order(point_of(trial, *places[trial.case]) for trial in trials if trial.record)


def write_series(study: Study, trials: Sequence[Trial], folder: Path, verdicts: Verdicts) -> list[Path]:
    """Writes study.json, series.md; returns their paths."""
    numbers = write_numbers(study, trials, folder, verdicts)
    table = folder / "series.md"
    table.write_text("\n".join(points_table(study.series, points_in(study.series, trials), trials[0].measure)) + "\n")
    return [table, numbers]


def publish_series(study: Study, trials: Sequence[Trial], folder: Path, verdicts: Verdicts) -> list[Path]:
    """As `publish` does of a study."""
    return publish(study, trials, folder, verdicts, write_series)
