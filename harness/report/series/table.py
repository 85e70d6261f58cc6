"""What a series came to, as Markdown: a row a family, size and budget, then the law and the prediction."""

from collections.abc import Sequence

from harness.plan.series import Series
from harness.plan.study import Study
from harness.report.markup import head, paragraph, row, text
from harness.report.series.law_table import law_lines
from harness.report.series.laws import Laws
from harness.report.series.points import CONVENTIONS, Point
from harness.report.statistics import Sample
from harness.report.study.table import disturbed, unranked
from harness.report.study.trials import Trial
from harness.report.style import magnitude


def series_table(
    study: Study, trials: Sequence[Trial], points: Sequence[Point], laws: Laws, said: Sequence[str]
) -> list[str]:  # fmt: skip
    """Lines of Markdown. `said`: sentences of the prediction."""
    lines = [paragraph(text(study.question)), "", *models_table(study.series, points), ""]
    lines += [*points_table(study.series, points, trials[0].shortly), ""]
    lines += law_lines(laws)
    for sentence in said:
        lines += ["", text(sentence)]
    return [*lines, "", *_below(study, trials)]


def models_table(series: Series, points: Sequence[Point]) -> list[str]:
    """Parameters of each size and family, by what counts."""
    lines, order = head(("family", "size", *(f"parameters: {name}" for name in CONVENTIONS))), list(series.families)
    models = {(point.size, order.index(point.family)): point for point in points}
    for (size, _), point in sorted(models.items()):
        lines.append(row([text(point.family), str(size), *(magnitude(point.params[name]) for name in CONVENTIONS)]))
    return lines


def points_table(series: Series, points: Sequence[Point], measure: str) -> list[str]:
    """Mean ± sd over the seeds; tokens per parameter under each convention; seconds of training, where all have their own."""
    shares = [f"tokens / {name}" for name in CONVENTIONS]
    lines = head(("FLOPs", "size", "family", "seeds", measure, "seconds", "tokens", *shares))
    order = list(series.families)
    for place in sorted({point.place for point in points}, key=lambda it: (it[1], it[2], order.index(it[0]))):
        some = [point for point in points if point.place == place]
        family, budget, size = place
        tokens, params = some[0].tokens, some[0].params
        seconds = [point.seconds for point in some if point.seconds is not None]
        cells = [
            f"{budget:.3g}",
            str(size),
            text(family),
            str(len(some)),
            Sample.of([point.bpb for point in some]).text("{:.4f}"),
        ]
        cells.append(Sample.of(seconds).text("{:.1f}") if len(seconds) == len(some) else "-")
        lines.append(row([*cells, magnitude(tokens), *(f"{tokens / params[name]:.3g}" for name in CONVENTIONS)]))
    return lines


def _passes(trials: Sequence[Trial]) -> str:
    """How often points read what there is of train: a law of points that read it again is one of repeated text."""
    finished = [trial for trial in trials if trial.record]
    passes = {trial.case: trial.record.metrics.tokens / length for trial in finished if (length := _train_length(trial))}
    if not passes:
        return ""
    again = [f"{name} {count:.1f} times" for name, count in passes.items() if count > 1]
    most = max(passes.values())
    return (
        f"Train is read more than once by {', '.join(again)}."
        if again
        else f"No point reads train again: at most {most:.0%} of it."
    )


def _train_length(trial: Trial) -> int | None:
    """In tokens, which are bytes where the record has no tokens."""
    data = trial.record.data
    return data.turned.read_bytes if data.turned else data.train_tokens or data.train_bytes


def _below(study: Study, trials: Sequence[Trial]) -> list[str]:
    """What all points share, what of val they are scored on, what was stopped, and why no run is ranked or timed."""
    classes = sorted({trial.hardware_class for trial in trials if trial.hardware_class})
    lines = [text(f"Lane {study.lane}, {study.common}. Hardware class: {'; '.join(classes) or 'no run finished'}.")]
    counted = "; ".join(f"{name}: {what}" for name, what in CONVENTIONS.items())
    lines += ["", text(f"Parameters, {counted}. FLOPs are of training, counted from the modules.")]
    scored = sorted({trial.record.metrics.scored_bytes for trial in trials if trial.record and trial.is_partial})
    lines += (
        ["", f"All points are scored on the first {' or '.join(f'{n:,}' for n in scored)} {trials[0].scored}s of val."]
        if scored
        else []
    )
    lines += ["", text(said)] if (said := _passes(trials)) else []
    if stopped := [f"{trial.case} seed {trial.seed} {trial.stopped}" for trial in trials if trial.stop]:
        lines += ["", text(f"No points: {'; '.join(stopped)}.")]
    for why in (disturbed(trials), unranked(trials, most=900)):
        lines += ["", text(f"{why[0].upper()}{why[1:]}.")] if why else []
    return lines
