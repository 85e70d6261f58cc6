"""The table of a study of routers' signal."""

from collections.abc import Callable, Sequence

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import Sample
from harness.report.study.signal import below, floor, gradient, moved, worth
from harness.report.study.trials import Trial

HEADER = (
    "case", "n", "router's gradient", "smallest step of the format", "gradients below it", "router's update / its weights",
    "the learned assignment is worth",
)  # fmt: skip
SAID = (
    "Means over seeds. The router's gradient: RMS of the steps that close a window of the second half of training, after "
    "clipping where there is any; the smallest step: the smallest magnitude that the format tells apart from 0 in the "
    "gradients that the layer's products quantize (a router's own gradient is fp32 in every format here). Worth: bits of the "
    "slice more where the experts of a token are given to another one."
)


def signal_tables(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of another figure."""
    if study.figure != "signal":
        return []
    rows = []
    for case in study.cases:
        some = [trial for trial in trials if trial.case == case]
        if some:
            share = _mean(some, below)
            rows.append(row([
                text(case), str(len(some)), _figure(some, gradient), _figure(some, floor),
                "-" if share is None else f"{100 * share:.0f}%", _figure(some, moved), _bits(some),
            ]))  # fmt: skip
    return ["", text(SAID), "", *head(HEADER), *rows] if rows else []


def _mean(some: Sequence[Trial], value: Callable[[Trial], float | None]) -> float | None:
    found = [v for trial in some if (v := value(trial)) is not None]
    return sum(found) / len(found) if found else None


def _figure(some: Sequence[Trial], value: Callable[[Trial], float | None]) -> str:
    found = _mean(some, value)
    return "-" if found is None else f"{found:.1e}"


def _bits(some: Sequence[Trial]) -> str:
    found = [v for trial in some if (v := worth(trial)) is not None]
    return Sample.of(found).text("{:.4f}") if found else "-"
