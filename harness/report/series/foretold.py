"""prediction.json of a series: written before the points ahead are run, held against its records, judged by those runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.files import replace_atomically
from harness.plan.series import Series
from harness.reading import file_hash, is_there, read_json
from harness.record.results import Foretold, Predicted, PredictionFile
from harness.report.series.ahead import best_size
from harness.report.series.answers import Interval
from harness.report.series.laws import COUNTED
from harness.report.series.points import Point
from harness.report.series.predict import Prediction, judge, predict, sentence
from harness.report.study.trials import Trial

FILE = "prediction.json"
REMEDY = "make series NAME=... makes a new one of the runs there are"
SAME = 1e-3  # relative: what a law fitted again may differ by, where a release of scipy is another


def read_foretold(folder: Path) -> PredictionFile | None:
    """None where nothing was predicted. Raises: UserError for a file that is damaged."""
    return read_json(folder / FILE, PredictionFile, REMEDY) if is_there(folder / FILE) else None


def write_foretold(folder: Path, series: str, made: Foretold) -> Path:
    """Puts it behind those that were made of other records, where it is one of them from its place."""
    before = read_foretold(folder)
    others = [it for it in before.made if it != made] if before else []
    content = PredictionFile(series=series, made=[*others, made]).content()
    folder.mkdir(parents=True, exist_ok=True)
    replace_atomically(folder / FILE, [(json.dumps(content, indent=1) + "\n").encode()])
    return folder / FILE


def stated(prediction: Prediction) -> Predicted:
    it = prediction.bpb
    return Predicted(
        family=prediction.family, size=prediction.size, budget=prediction.budget, tokens=prediction.tokens,
        convention=prediction.convention, n=prediction.n, bpb=it.value, low=it.low, high=it.high, resamples=it.resamples,
        failed=it.failed, naive=prediction.naive, fitted=prediction.fitted,
    )  # fmt: skip


def prediction_of(it: Predicted) -> Prediction:
    interval = Interval(it.bpb, it.low, it.high, it.resamples, it.failed)
    return Prediction(it.family, it.size, it.budget, it.tokens, it.convention, it.n, interval, it.naive, it.fitted)


def hashes_of(trials: Sequence[Trial]) -> dict[str, str]:
    """By CASE/SEED the sha256 of record.json, of runs that have finished."""
    return {f"{trial.case}/{trial.seed}": file_hash(trial.folder / "record.json") for trial in trials if trial.record}


def problems(made: PredictionFile | None, series: Series, points: Sequence[Point], trials: Sequence[Trial]) -> list[str]:
    """A sentence for each thing that keeps the last prediction from being what `ahead_of` says of these records."""
    return list(_problems(made, series, points, trials)) if made else []


def _problems(made: PredictionFile, series: Series, points: Sequence[Point], trials: Sequence[Trial]) -> Iterator[str]:
    if made.series != series.name:
        yield f"{FILE} is of series {made.series}, the folder of {series.name}"
    last = made.made[-1]
    yield from _of_other_records(last, series, trials)
    if len({it.family for it in last.points}) < len(last.points):
        yield f"{FILE} predicts a family more than once at {last.at}"
    for it in last.points:
        used = [point for point in points if point.family == it.family and point.budget < series.ahead]
        if len(used) != it.fitted or it.budget != series.ahead:
            yield (
                f"{FILE} fits {it.fitted} runs of {it.family} below {it.budget:.3g} FLOPs, of which there are {len(used)} "
                f"below {series.ahead:.3g}, the budget ahead"
            )
            continue
        try:
            size = best_size(used, series.ahead)
            again = stated(predict(used, it.family, it.size, it.budget, it.tokens, it.convention, count=it.resamples))
        except UserError as error:
            yield f"{FILE}: {error.problem}"
            continue
        if it.convention != COUNTED:
            yield f"{FILE} counts parameters of {it.family} as {it.convention}, laws count {COUNTED}"
        if size != it.size:
            yield f"{FILE} predicts {it.family} at size {it.size}, the law of its records calls {size} best"
        ran = {p.tokens for p in points if p.place == (it.family, it.budget, it.size)}
        if ran - {it.tokens}:
            yield f"{FILE} predicts {it.family} after {it.tokens:,} tokens, its runs had {', '.join(map(str, sorted(ran)))}"
        for figure in ("n", "bpb", "low", "high", "naive"):
            said, found = getattr(it, figure), getattr(again, figure)
            if (said is None) != (found is None) or (said is not None and abs(found / said - 1) > SAME):
                yield f"{FILE} has {figure} {_shown(said)} of {it.family}, its records give {_shown(found)}"


def _of_other_records(last: Foretold, series: Series, trials: Sequence[Trial]) -> Iterator[str]:
    """It rests on every record of the grid, each as it is."""
    there = hashes_of([trial for trial in trials if series.places[trial.case][2] != series.ahead])
    for name, stated_hash in last.records.items():
        if name not in there:
            yield f"{FILE} rests on {name}, of which there is no record in the grid"
        elif there[name] != stated_hash:
            yield f"{FILE} rests on another record of {name}: its sha256 is {there[name][:8]}, stated is {stated_hash[:8]}"
    if more := sorted(there.keys() - last.records.keys()):
        yield f"{FILE} does not rest on {', '.join(more)}, whose records are in the grid"


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def judged(
    made: PredictionFile | None, points: Sequence[Point], began: Mapping[tuple[str, float, int], str], ahead: float
) -> list[str]:
    """Sentences: what was predicted and, of points that are there, how it came out; then what was run at the budget `ahead`
    without a prediction. `began`: by place when the first of its runs was started, ISO 8601."""
    last, said, places = made.made[-1] if made else None, [], set()
    for it in map(prediction_of, last.points if last else ()):
        place = (it.family, it.budget, it.size)
        places.add(place)
        said.append(sentence(it))
        if not any(p.place == place for p in points):
            said.append(f"{it.family}: not run yet.")
            continue
        when = began.get(place, "")
        order = "before" if when[:19] >= last.at[:19] else "after"
        times = f"{last.at[:19]}, {when[:19] or 'unknown'}"
        said.append(f"{sentence(judge(it, points))} The prediction was made {order} the run began ({times}).")
    for family, budget, size in sorted({p.place for p in points if p.budget == ahead} - places):
        said.append(f"{family} at size {size} and {budget:.3g} FLOPs was run, and {FILE} does not predict it.")
    return said
