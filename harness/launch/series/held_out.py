"""The points ahead of a series' budgets: predicted from the grid, said and written, and only then run."""

from collections.abc import Sequence

from harness.errors import UserError
from harness.launch.series.course import Course
from harness.record.provenance import now
from harness.record.results import Foretold, Predicted
from harness.report.series.ahead import ahead_of
from harness.report.series.folder import points_in
from harness.report.series.foretold import hashes_of, prediction_of, read_foretold, stated, write_foretold
from harness.report.series.points import Point
from harness.report.series.predict import sentence


def foretell(course: Course) -> list[str]:
    """Names of the points that are predicted, one of each family; of the same records the prediction that is there stays.

    Raises:
        UserError: the grid carries no law of any family.
    """
    series = course.series
    grid = [trial for trial in course.trials() if course.points[trial.case].budget != series.ahead]
    records, before = hashes_of(grid), read_foretold(course.folder)
    made = next((it for it in before.made if it.records == records), None) if before else None
    if made is None:
        made = Foretold(at=now(), records=records, points=_predicted(course, points_in(series, grid)))
    if before is None or made != before.made[-1]:
        print(f"written: {write_foretold(course.folder, series.name, made)}")
    for it in made.points:
        print(sentence(prediction_of(it)), flush=True)
    return [series.point_name(it.family, it.size, it.budget) for it in made.points]


def _predicted(course: Course, points: Sequence[Point]) -> list[Predicted]:
    series, found, why = course.series, [], []
    for family in series.families:
        ahead = [point for point in course.points.values() if (point.family, point.budget) == (family, series.ahead)]
        try:
            prediction = ahead_of(points, family, series.ahead, {point.size: point.tokens for point in ahead})
        except UserError as error:
            why.append(f"{family}: {error.problem}")
            continue
        found.append(stated(prediction))
    course.state.complaints += [f"not predicted: {it}" for it in why]
    if not found:
        raise UserError("no family has a law to predict from:\n    " + "\n    ".join(why), "run more sizes or budgets")
    return found
