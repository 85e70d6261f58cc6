"""The table of a study: a row a case."""

from collections.abc import Callable, Sequence

from harness.plan.study import Study
from harness.report.statistics import Sample
from harness.report.study_runs import Trial

HEADER = (
    "case", "overrides", "n", "slice", "all val", "worst entropy", "busiest expert", "dead", "time a token", "ended",
)  # fmt: skip


def study_table(study: Study, trials: Sequence[Trial]) -> str:
    """Markdown. Mean ± sd over the seeds that finished; health of the worst layer and seed, stopped runs among them. `time a
    token` is that of the first case."""
    by_case = {case: [trial for trial in trials if trial.case == case] for case in study.cases}
    first = _mean(next(iter(by_case.values())), lambda trial: trial.tokens_per_second)
    rows = [_row(study, case, some, first) for case, some in by_case.items() if some]
    lines = [study.question, "", _line(HEADER), _line(["---"] * len(HEADER)), *rows, ""]
    common = f", {study.common}" if study.common else ""
    classes = sorted({trial.hardware_class for trial in trials if trial.hardware_class})
    lines.append(f"Lane {study.lane}{common}. Hardware class: {'; '.join(classes) or 'no run finished'}.")
    lines += [f"\n{case} is unranked: {why}" for case, some in by_case.items() if (why := unranked(some))]
    return "\n".join(lines)


def unranked(trials: Sequence[Trial]) -> str:
    """Each reason once."""
    return "; ".join(dict.fromkeys(reason for trial in trials for reason in trial.why_unranked))


def _row(study: Study, case: str, trials: Sequence[Trial], first: float | None) -> str:
    finished = [trial for trial in trials if trial.record]
    rate = _mean(trials, lambda trial: trial.tokens_per_second)
    health = [trial.health for trial in trials]
    stopped = list(dict.fromkeys(f"seed {trial.seed}: {trial.stopped}" for trial in trials if trial.stopped))
    return _line([
        case, f"`{study.cases[case]}`" if study.cases[case] else "as it is", str(len(trials)),
        _sample(finished, "slice_bpb"), _sample(finished, "val_bpb"), f"{min(h['worst_entropy_ratio'] for h in health):.3f}",
        f"{max(h['busiest'] for h in health):.2f}x", f"{max(h['dead'] for h in health)} of {health[0]['experts']}",
        f"{first / rate:.2f}x" if first and rate else "-", "; ".join(stopped) or "whole",
    ])  # fmt: skip


def _sample(finished: Sequence[Trial], key: str) -> str:
    return Sample.of([trial.record["metrics"][key] for trial in finished]).text("{:.4f}") if finished else "-"


def _mean(trials: Sequence[Trial], value: Callable[[Trial], float | None]) -> float | None:
    values = [v for trial in trials if (v := value(trial)) is not None]
    return sum(values) / len(values) if values else None


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
