"""A series' folder: records as in a study's, points named in study.json, with table, figure and numbers of the law."""

import json
from collections.abc import Sequence
from pathlib import Path

from harness.plan.series import Series
from harness.plan.study import Study
from harness.report.series.bootstrap import RESAMPLES
from harness.report.series.figure import draw_series
from harness.report.series.foretold import FILE, judged, read_foretold
from harness.report.series.laws import laws_of
from harness.report.series.numbers import numbers_of
from harness.report.series.points import Point, in_order, point_of
from harness.report.series.table import series_table
from harness.report.study.folder import publish, write_numbers
from harness.report.study.table import Verdicts
from harness.report.study.trials import Trial


def points_in(series: Series, trials: Sequence[Trial]) -> list[Point]:
    """The points that trials stand for; a run that health stopped is none."""
    places = series.places
    return in_order(point_of(trial, *places[trial.case]) for trial in trials if trial.record)


def unpaid(series: Series, trials: Sequence[Trial]) -> list[str]:
    """A sentence for each run whose tokens are not those that its budget pays for, to half a step."""
    found = []
    for trial in trials:
        if not trial.record:
            continue
        budget, each = series.places[trial.case][2], trial.record.counts.flops_per_token
        flops, step = trial.record.metrics.tokens * each, trial.plan["batch"]["tokens_per_step"] * each
        if abs(flops - budget) > step / 2:
            found.append(f"{trial.folder}: it trained for {flops:.4g} FLOPs, its budget is {budget:.4g} (steps of {step:.3g})")
    return found


def write_series(study: Study, trials: Sequence[Trial], folder: Path, verdicts: Verdicts) -> list[Path]:
    """Writes the table, the figure and the numbers beside the prediction that `folder` may hold; returns their paths. The law
    is of the grid: what lies ahead of it is predicted."""
    named, series = write_numbers(study, trials, folder, verdicts), study.series
    points = points_in(series, trials)
    grid = [point for point in points if point.budget != series.ahead]
    laws = laws_of(grid, list(series.families), count=RESAMPLES)
    made = read_foretold(folder)
    said = judged(made, points, _began(series, trials), series.ahead)
    table, numbers = folder / "series.md", folder / "series.json"
    table.write_text("\n".join(series_table(study, trials, points, laws, said)) + "\n")
    numbers.write_text(json.dumps(numbers_of(points, laws, said), indent=1) + "\n")
    return [table, draw_series(study, trials, points, laws, made, folder / "series.png"), numbers, named]


def publish_series(study: Study, trials: Sequence[Trial], folder: Path, verdicts: Verdicts, drawn: Path) -> list[Path]:
    """As `publish` does of a study. `drawn`: the folder whose prediction goes with the records."""
    beside = [path for path in (drawn / FILE,) if path.exists()]
    return publish(study, trials, folder, verdicts, write_series, beside)


def _began(series: Series, trials: Sequence[Trial]) -> dict[tuple[str, float, int], str]:
    """By place when its first run was started; "" where a record does not say."""
    found: dict[tuple[str, float, int], str] = {}
    for trial in trials:
        if trial.record:
            family, size, budget = series.places[trial.case]
            at, place = trial.record.provenance.started_at or "", (family, budget, size)
            found[place] = min(found.get(place, at), at)
    return found
