"""Table, figure, numbers and prediction of a series, from records of a known law."""

import json
from dataclasses import replace
from functools import partial

import pytest
from series_factory import point_run, series

import harness.report.series.ahead
import harness.report.series.folder
from harness.errors import UserError
from harness.launch.series.points import points_of, study_of_points
from harness.record.results import Foretold
from harness.report.series.ahead import ahead_of, best_size
from harness.report.series.folder import points_in, unpaid, write_series
from harness.report.series.foretold import hashes_of, problems, read_foretold, stated, write_foretold
from harness.report.series.predict import predict
from harness.report.study.trials import read_trial

SERIES = series(sizes=[3, 4, 5, 6, 8])
POINTS = points_of(SERIES)
AHEAD = [point for point in POINTS.values() if point.budget == SERIES.ahead]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(harness.report.series.folder, "RESAMPLES", 20)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Of the grid, two seeds."""
    home = tmp_path_factory.mktemp("runs")
    grid = [point for point in POINTS.values() if point.budget != SERIES.ahead]
    return [read_trial(point.name, seed, point_run(home, point, seed)) for point in grid for seed in (1, 2)]


@pytest.fixture(scope="module")
def ahead(trials):
    """What is predicted of each family."""
    points = points_in(SERIES, trials)
    tokens = {name: {point.size: point.tokens for point in AHEAD if point.family == name} for name in SERIES.families}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.report.series.ahead, "predict", partial(predict, count=20))
        return [stated(ahead_of(points, name, SERIES.ahead, tokens[name])) for name in SERIES.families]


def written(folder, trials, *more):
    some = [*trials, *more]
    study = study_of_points(SERIES, [point for name, point in POINTS.items() if any(one.case == name for one in some)])
    return write_series(study, some, folder, {(one.case, one.seed): [] for one in some})


def foretold(folder, trials, ahead, at="2025-12-31T00:00:00+00:00"):
    return write_foretold(folder, SERIES.name, Foretold(at=at, records=hashes_of(trials), points=ahead))


def test_every_point_has_its_row_and_what_is_written_is_the_same_twice(trials, tmp_path):
    table, figure, numbers, _ = written(tmp_path / "one", trials)
    begin = ("| 1.6e+11 | 4 | dense | 2 |", "| 1.6e+11 | 4 | moe | 2 |")
    rows = [line for line in table.read_text().splitlines() if line.startswith(begin)]
    assert len(rows) == 2 and all("±" in row for row in rows)
    assert "reads train again" in table.read_text() or "Train is read more than once by" in table.read_text()
    assert "tokens / matrices+head" in table.read_text() and "hardware class" in table.read_text().lower()
    assert figure.stat().st_size > 20_000
    again = written(tmp_path / "two", list(reversed(trials)))
    assert [path.read_bytes() for path in again[:3]] == [path.read_bytes() for path in (table, figure, numbers)]


def test_the_numbers_have_points_valleys_exponents_under_each_convention_and_residuals(trials, tmp_path):
    found = json.loads(written(tmp_path, trials)[2].read_text())
    assert len(found["points"]) == len(trials) and found["points"][0]["params"].keys() == found["valleys"]["dense"].keys()
    assert found["joint"]["dense"]["law"]["E"] == pytest.approx(1.2, abs=0.1)
    assert len(found["joint"]["moe"]["residuals"]) == len(trials) / 2
    assert {it["contract"] for it in found["worths"]} == {"flops", "totalDN", "activeDN", "seconds"}


def test_a_series_whose_grid_carries_no_law_says_so(trials, tmp_path):
    few = [one for one in trials if one.case.startswith("dense-s4")]
    said = written(tmp_path, few)[0].read_text()
    assert "a law asked of fewer points than parameters" in said and "| dense | 4 |" in said


def test_the_size_ahead_is_the_one_that_the_law_calls_best(trials):
    """Its parameters grow as the square root of the budget, about."""
    points = points_in(SERIES, trials)
    sizes = [best_size([p for p in points if p.family == "dense"], SERIES.ahead * 4**n) for n in (-2, 0, 2)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] and set(sizes) <= set(SERIES.sizes)
    with pytest.raises(UserError, match="fewer points than parameters"):
        best_size(points[:3], SERIES.ahead)


def test_a_prediction_is_stated_before_and_judged_after(trials, ahead, tmp_path):
    foretold(tmp_path, trials, ahead)
    said = written(tmp_path, trials)[0].read_text()
    assert "Predicted of dense at size" in said and "dense: not run yet." in said
    point = POINTS[SERIES.point_name("dense", ahead[0].size, SERIES.ahead)]
    for home, bpb, verdict in (("in", None, "inside its interval"), ("out", 1.9, "outside its interval")):
        run = read_trial(point.name, 1, point_run(tmp_path / home, point, 1, bpb=bpb))
        said = written(tmp_path, trials, run)[0].read_text()
        assert verdict in said and "made before the run began" in said and "moe: not run yet." in said
    foretold(tmp_path, trials, ahead, at="2026-06-01T00:00:00+00:00")
    assert "made after the run began" in written(tmp_path, trials, run)[0].read_text()


def test_a_prediction_of_other_records_is_named(trials, ahead, tmp_path):
    assert problems(None, SERIES, points_in(SERIES, trials), trials) == []
    foretold(tmp_path, trials, ahead)

    def found(some=trials, name=SERIES.name):
        return problems(read_foretold(tmp_path), SERIES.model_copy(update={"name": name}), points_in(SERIES, some), some)

    assert found() == []
    assert "is of series example, the folder of other" in found(name="other")[0]
    assert "rests on dense-s3-c1/1, of which there is no record" in found(trials[1:])[0]
    other = replace(trials[0], folder=trials[1].folder)
    assert "rests on another record of dense-s3-c1/1" in found([other, *trials[1:]])[0]
    moved = [it.model_copy(update={"bpb": it.bpb * 1.01}) for it in ahead]
    foretold(tmp_path, trials, moved)
    assert any("its records give" in one for one in found()) and len(read_foretold(tmp_path).made) == 2


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda it: {"high": it.high + 0.3}, "has high"), (lambda it: {"low": it.low / 2}, "has low"),
        (lambda it: {"naive": it.naive + 0.1}, "has naive"), (lambda it: {"n": it.n + 500}, "has n"),
        (lambda it: {"size": 3 if it.size > 5 else 8}, "calls"), (lambda it: {"convention": "total"}, "as total"),
        (lambda it: {"budget": 2 * it.budget}, "the budget ahead"), (lambda it: {"low": None, "high": None}, "has high none"),
        (lambda it: {"fitted": it.fitted - 1}, "of which there are"),
    ],
)  # fmt: skip
def test_a_prediction_that_was_edited_is_named(trials, ahead, tmp_path, change, said):
    foretold(tmp_path, trials, [ahead[0].model_copy(update=change(ahead[0])), *ahead[1:]])
    found = problems(read_foretold(tmp_path), SERIES, points_in(SERIES, trials), trials)
    assert any(said in one for one in found), found


def test_a_prediction_rests_on_the_whole_grid_and_on_the_tokens_that_were_run(trials, ahead, tmp_path):
    write_foretold(tmp_path, SERIES.name, Foretold(at="2026", records=hashes_of(trials[2:]), points=ahead))
    found = problems(read_foretold(tmp_path), SERIES, points_in(SERIES, trials), trials)
    assert found == ["prediction.json does not rest on dense-s3-c1/1, dense-s3-c1/2, whose records are in the grid"]
    foretold(tmp_path, trials, ahead)
    point = POINTS[SERIES.point_name("dense", ahead[0].size, SERIES.ahead)]
    some = [*trials, read_trial(point.name, 1, point_run(tmp_path / "run", point, 1))]
    runs = points_in(SERIES, some)
    assert problems(read_foretold(tmp_path), SERIES, runs, some) == []
    longer = [replace(run, tokens=run.tokens + 1) if run.budget == SERIES.ahead else run for run in runs]
    assert "its runs had" in problems(read_foretold(tmp_path), SERIES, longer, some)[0]


def test_a_run_ahead_that_was_not_predicted_is_no_judged_one(trials, tmp_path):
    point = next(point for point in AHEAD if point.family == "moe")
    said = written(tmp_path, trials, read_trial(point.name, 1, point_run(tmp_path / "run", point, 1)))[0].read_text()
    assert f"moe at size {point.size} and 6.4e+11 FLOPs was run, and prediction.json does not predict it." in said
    assert "Predicted of" not in said


def test_a_run_of_another_budget_is_named(trials):
    assert unpaid(SERIES, trials) == []
    found = unpaid(SERIES, [replace(trials[0], case=trials[0].case.replace("-c1", "-c2")), *trials[1:]])
    assert len(found) == 1 and "its budget is 3.2e+11" in found[0]
