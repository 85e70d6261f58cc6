"""The table of a study: a row a case."""

from collections.abc import Callable, Mapping, Sequence

from harness.plan.study import Study
from harness.report.markup import code, head, paragraph, row, text
from harness.report.statistics import Sample
from harness.report.study.absorption import absorption_table
from harness.report.study.foretelling_table import foretelling_tables
from harness.report.study.formats_table import formats_tables
from harness.report.study.interaction import interaction_table
from harness.report.study.occupancy_table import occupancy_tables
from harness.report.study.parts import parts_tables
from harness.report.study.race_table import race_tables
from harness.report.study.repetition import repetition_table
from harness.report.study.routing_table import routing_tables
from harness.report.study.signal_table import signal_tables
from harness.report.study.tasks import task_tables
from harness.report.study.trials import Trial, val_percent

HEADER = (
    "case", "overrides", "n", "slice", "all val", "minus first", "worst entropy", "busiest expert", "dead", "time a token",
    "doctor", "ended",
)  # fmt: skip

MOST_NAMED = 6  # cases of which a sentence gives the names
Verdicts = Mapping[tuple[str, int], Sequence[str]]  # by case and seed: what the doctor finds, empty of a healthy run


def study_table(study: Study, trials: Sequence[Trial], verdicts: Verdicts) -> str:
    """Markdown. Mean ± sd over the seeds that finished; health of the worst layer and seed, stopped runs among them. `minus
    first`: bits of val against the first case at equal seeds, in %, mean ± sd; `time a token` is over its time."""
    by_case = {case: [trial for trial in trials if trial.case == case] for case in study.cases}
    first = next(iter(by_case.values()))
    rows = [
        row([*_row(study, case, some, first), text(_found(some, verdicts)), text(stopped(some) or "whole")])
        for case, some in by_case.items()
        if some
    ]
    tables = (
        interaction_table, race_tables, repetition_table, parts_tables, task_tables, routing_tables, absorption_table,
        foretelling_tables, occupancy_tables, formats_tables, signal_tables,
    )  # fmt: skip
    below = [line for table in tables for line in table(study, trials)]
    lines = [paragraph(text(study.question)), "", *head(HEADER), *rows, *below, ""]
    common = f", {study.common}" if study.common else ""
    classes = sorted({trial.hardware_class for trial in trials if trial.hardware_class})
    lines.append(text(f"Lane {study.lane}{common}. Hardware class: {'; '.join(classes) or 'no run finished'}."))
    scored = sorted({trial.record.metrics.scored_bytes for trial in trials if trial.record and trial.is_partial})
    amounts = " or ".join(f"{count:,}" for count in scored)
    lines += ["", text(ratios)] if (ratios := tokens_per_parameter(by_case)) else []
    lines += ["", f"Not all of val is scored: its first {amounts} {trials[0].scored}s."] if scored else []
    if why := disturbed(trials):
        lines += ["", text(f"{why[0].upper()}{why[1:]}.")]
    if why := unranked(trials):
        lines += ["", text(f"{why[0].upper()}{why[1:]}.")]
    return "\n".join(lines)


def tokens_per_parameter(by_case: Mapping[str, Sequence[Trial]]) -> str:
    """ "Tokens per active and per total parameter: 4.1 and 4.1 (dense, dense-2), 4.0 and 1.6 (moe, moe-2)." of the cases that
    finished; empty where none did. Beyond MOST_NAMED cases of one model their number alone is said."""
    found: dict[str, list[str]] = {}
    for case, trials in by_case.items():
        if record := next((trial.record for trial in trials if trial.record), None):
            each = [record.metrics.tokens / n for n in (record.counts.params_active, record.counts.params_total)]
            found.setdefault(f"{each[0]:.3g} and {each[1]:.3g}", []).append(case)
    of_cases = [
        f"{said} ({', '.join(cases) if len(cases) <= MOST_NAMED else f'{cases[0]} and {len(cases) - 1} more cases'})"
        for said, cases in found.items()
    ]
    return f"Tokens per active and per total parameter: {', '.join(of_cases)}." if found else ""


def disturbed(trials: Sequence[Trial]) -> str:
    """ "no time of CASE seed 1: ...": the runs whose machine was not their own; empty where there is none."""
    found = [(trial, trial.record.disturbed) for trial in trials if trial.record and trial.record.disturbed]
    return "; ".join(f"no time of {trial.case} seed {trial.seed}: {why}" for trial, why in found)


def unranked(trials: Sequence[Trial], most: int | None = None) -> str:
    """ "unranked: ...": what all unranked cases share once, then what is a case's own; empty where all are ranked. Where that
    takes more than `most` characters, the table alone has what is a case's own."""
    reasons: dict[str, list[str]] = {}
    for trial in trials:
        if trial.why_unranked:
            own = reasons.setdefault(trial.case, [])
            own += [said for reason in trial.why_unranked if (said := _short(reason)) not in own]
    if not reasons:
        return ""
    shared = [reason for reason in next(iter(reasons.values())) if all(reason in own for own in reasons.values())]
    finished = {trial.case for trial in trials if trial.record}
    everyone = "all cases" if finished == {trial.case for trial in trials} else "all that finished"
    who = everyone if set(reasons) == finished else ", ".join(reasons)
    common = [f"{who}: {'; '.join(shared)}"] if shared else []
    parts = [f"{case}: {'; '.join(rest)}" for case, own in reasons.items() if (rest := [r for r in own if r not in shared])]
    said = f"unranked: {'. '.join([*common, *parts])}"
    if most is None or len(said) <= most:
        return said
    return f"unranked: {'. '.join([*common, 'What is changed in a case beside that stands in the table'])}"


def _short(reason: str) -> str:
    """Lists of steps are left to the record."""
    return "other validation.steps" if reason.startswith("validation.steps=") else reason


def stopped(trials: Sequence[Trial]) -> str:
    """ "seeds 2, 3 stopped by health (collapse) at step 192" of a case's trials; empty where all finished."""
    seeds: dict[str, list[str]] = {}
    for trial in trials:
        if trial.stopped:
            seeds.setdefault(trial.stopped, []).append(str(trial.seed))
    return "; ".join(f"seed{'s' if len(some) > 1 else ''} {', '.join(some)} {why}" for why, some in seeds.items())


def _row(study: Study, case: str, trials: Sequence[Trial], first: Sequence[Trial]) -> list[str]:
    finished = [trial for trial in trials if trial.record]
    rate, first_rate = _mean(trials, lambda trial: trial.tokens_per_second), _mean(first, lambda trial: trial.tokens_per_second)
    health = [trial.health for trial in trials if trial.health]
    load = (
        f"{min(h.worst_entropy_ratio for h in health):.3f}", f"{max(h.busiest for h in health):.2f}x",
        f"{max(h.dead for h in health)} of {health[0].experts}",
    ) if health else ("-", "-", "-")  # fmt: skip
    count = str(len(trials)) if len(finished) == len(trials) else f"{len(finished)} of {len(trials)}"
    return [
        text(case), code(study.cases[case]) or "as it is", count,
        _sample(finished, "slice_bpb"), _sample(finished, "val_bpb"), _against(finished, first),
        *load,
        f"{first_rate / rate:.2f}x" if first_rate and rate else "-",
    ]  # fmt: skip


def _against(finished: Sequence[Trial], first: Sequence[Trial]) -> str:
    percent = [value for trial in finished if (value := val_percent(trial, first)) is not None]
    if not percent or first[0].case == finished[0].case:
        return "-"
    return Sample.of(percent).text("{:+.2f}").replace("± +", "± ") + "%"


def _found(trials: Sequence[Trial], verdicts: Verdicts) -> str:
    """ "hot expert (2 of 3), dead experts (1 of 3)", or "healthy"; how many seeds only where there are several."""
    seen: dict[str, int] = {}
    for trial in trials:
        for name in verdicts[trial.case, trial.seed]:
            seen[name] = seen.get(name, 0) + 1
    return ", ".join(f"{name} ({n} of {len(trials)})" if len(trials) > 1 else name for name, n in seen.items()) or "healthy"


def _sample(finished: Sequence[Trial], key: str) -> str:
    return Sample.of([getattr(trial.record.metrics, key) for trial in finished]).text("{:.4f}") if finished else "-"


def _mean(trials: Sequence[Trial], value: Callable[[Trial], float | None]) -> float | None:
    values = [v for trial in trials if (v := value(trial)) is not None]
    return sum(values) / len(values) if values else None
