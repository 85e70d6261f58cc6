"""prediction.json of a series: written before the points ahead are run, held against its records, judged by those runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.files import replace_atomically
from harness.reading import file_hash, is_there, read_json
from harness.record.results import Foretold, Predicted, PredictionFile
from harness.report.series.answers import Interval
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
    """Puts it behind those that were made of other records."""
    before = read_foretold(folder)
    content = PredictionFile(series=series, made=[*(before.made if before else ()), made]).content()
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


def problems(made: PredictionFile | None, series: str, points: Sequence[Point], trials: Sequence[Trial]) -> list[str]:
    """A sentence for each thing that keeps the last prediction from being one of these records."""
    return list(_problems(made, series, points, trials)) if made else []


def _problems(made: PredictionFile, series: str, points: Sequence[Point], trials: Sequence[Trial]) -> Iterator[str]:
    if made.series != series:
        yield f"{FILE} is of series {made.series}, the folder of {series}"
    last, there = made.made[-1], hashes_of(trials)
    for name, stated_hash in last.records.items():
        if name not in there:
            yield f"{FILE} rests on {name}, of which there is no record"
        elif there[name] != stated_hash:
            yield f"{FILE} rests on another record of {name}: its sha256 is {there[name][:8]}, stated is {stated_hash[:8]}"
    for it in last.points:
        used = [point for point in points if point.family == it.family and point.budget < it.budget]
        if len(used) != it.fitted:
            yield f"{FILE} fits {it.fitted} runs of {it.family} below {it.budget:.3g} FLOPs, of which there are {len(used)}"
            continue
        try:
            again = predict(used, it.family, it.size, it.budget, it.tokens, it.convention, count=it.resamples)
        except UserError as error:
            yield f"{FILE}: {error.problem}"
            continue
        if abs(again.bpb.value / it.bpb - 1) > SAME:
            yield f"{FILE} predicts {it.bpb:.4f} of {it.family}, its records give {again.bpb.value:.4f}"


def judged(made: PredictionFile | None, points: Sequence[Point], began: Mapping[tuple[str, int, float], str]) -> list[str]:
    """Sentences: what was predicted and, of points that are there, how it came out. `began`: by family, size and budget when
    the first of their runs was started, ISO 8601."""
    if made is None:
        return []
    last, said = made.made[-1], []
    for it in map(prediction_of, last.points):
        said.append(sentence(it))
        if not any((p.family, p.size, p.budget) == (it.family, it.size, it.budget) for p in points):
            said.append(f"{it.family}: not run yet.")
            continue
        when = began.get((it.family, it.size, it.budget), "")
        order = "before" if when[:19] >= last.at[:19] else "after"
        times = f"{last.at[:19]}, {when[:19] or 'unknown'}"
        said.append(f"{sentence(judge(it, points))} The prediction was made {order} the run began ({times}).")
    return said
