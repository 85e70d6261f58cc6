"""The tables of a study of experts and tasks: what each case's experts tell of the task, and whether a run that specialises
more for a task scores better on it. What each word means is in `specialisation.py`, and said below the tables."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.rank_correlation import Correlation, over_cases, within_cases
from harness.report.statistics import LEVEL, MIN_SEEDS, Sample
from harness.report.study import specialisation
from harness.report.study.trials import Trial
from harness.report.task_scores import MEASURES

OF_CASES = (
    "case", "n", "told of the task, nats", "shuffled", "told minus shuffled", "beyond ids", "experts for one task",
    "silenced: its task", "other tasks", "difference", "verdict",
)  # fmt: skip
OF_TASKS = (
    "task", "score", "mean", "specialisation, nats", "above its control", "over all runs", "verdict", "within cases", "verdict",
)  # fmt: skip
FIGURES = (
    lambda layer: layer.told, lambda layer: layer.shuffled, lambda layer: layer.told - layer.shuffled,
    lambda layer: layer.beyond_ids,
)  # fmt: skip
PREDICTS, LOWER = "predicts a higher score", "goes with a lower score"
SAID = (
    "Told: mutual information of an expert chosen and the task of the token, the mean over MoE layers, over test instances of "
    "all tasks; shuffled: the same with tasks of other instances, its control; beyond ids: what experts tell of the task where "
    "the token's id is known, less the same of shuffled tasks. An expert is for one task where its share of "
    "that task's tokens is, with all of its interval over instances, above its share of the tokens of the other tasks. "
    "Silenced: nats more per answer without such an expert, one at a time, of its own task and of the others.",
    "Specialisation for a task: KL of the experts chosen for its tokens from those chosen for all tokens (specific surprise, "
    "DeWeese and Meister 1999), less the control's, the mean over MoE layers; above its control: runs in which a layer is, all "
    "of its interval. Over all runs and within cases: Spearman's rank correlation of it with the score over training's "
    "difficulties (exact match, or minus the KL from the exact distribution), within cases of differences from the case's "
    "mean; intervals are a bootstrap's, over cases and the runs in them, and over the runs of each case.",
)  # fmt: skip

Both = tuple[Correlation | None, Correlation | None]  # over all runs, within cases


def routing_tables(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of a study that does not look into its runs."""
    if not study.inspects:
        return []
    inspected = [trial for trial in trials if trial.routing]
    lines = [""]
    if missing := [f"{trial.case} seed {trial.seed}" for trial in trials if not trial.routing]:
        lines += [text(f"Not looked into: {', '.join(missing)}."), ""]
    if not inspected:
        return lines[:-1]
    by_case = {case: some for case in study.cases if (some := [trial for trial in inspected if trial.case == case])}
    level = 1 - (1 - LEVEL) / len(by_case)
    cases = [row([text(case), str(len(some)), *_of_case(some, level)]) for case, some in by_case.items()]
    tasks = [row([text(task), *cells]) for task, cells in _of_tasks(list(by_case.values()))]
    together = f"Intervals of one table hold together at {LEVEL:.0%}."
    lines += [*head(OF_CASES), *cases, "", text(SAID[0]), "", *head(OF_TASKS), *tasks, "", text(f"{SAID[1]} {together}")]
    return lines


def _of_case(trials: Sequence[Trial], level: float) -> Iterator[str]:
    found = [trial.routing for trial in trials]
    told, shuffled, beyond, beyond_ids = (Sample.of([fmean(map(of, one.layers)) for one in found]) for of in FIGURES)
    called = [one.called for one in found]
    yield from (told.text("{:.4f}"), shuffled.text("{:.4f}"), _spanned(beyond, level), _spanned(beyond_ids, level))
    yield f"{fmean(called):.1f} of {found[0].experts}" + (f" ({min(called)} to {max(called)})" if len(called) > 1 else "")
    costs = [one.silenced for one in found if one.silenced]
    if costs:
        yield from (Sample.of([cost[at] for cost in costs]).text("{:+.4f}").replace("± +", "± ") for at in (0, 1))
        yield _spanned(Sample.of([own - others for own, others in costs]), level)
    else:
        yield from ("-", "-", "-")
    yield text(_specialises(beyond, beyond_ids, level))


def _spanned(sample: Sample, level: float) -> str:
    bounds = sample.interval(level)
    return f"{sample.mean:+.4f}" + (f" ({bounds[0]:+.4f} to {bounds[1]:+.4f})" if bounds else "")


def _specialises(beyond: Sample, beyond_ids: Sample, level: float) -> str:
    """What any function of the token's id tells of the task as well is not called specialised."""
    if beyond.n < MIN_SEEDS:
        return f"n = {beyond.n}: a verdict takes {MIN_SEEDS} seeds"
    if beyond.interval(level)[0] <= 0:
        return f"nothing that {beyond.n} seeds resolve"
    return "specialised by task" if beyond_ids.interval(level)[0] > 0 else "by the token's id, as far as these seeds resolve"


def _of_tasks(by_case: Sequence[Sequence[Trial]]) -> Iterator[tuple[str, list[str]]]:
    every = [trial for some in by_case for trial in some]
    found = correlations(by_case)
    for task, (over, within) in found.items():
        known = [trial.routing.tasks[task] for trial in every if task in trial.routing.tasks]
        above = f"{sum(one.above for one in known)} of {len(known)} runs"
        measure = next((MEASURES[m] for trial in every if (m := measure_of(trial, task))), "-")
        sample = Sample.of([one.specialisation for one in known]).text("{:.4f}")
        scores = [one.score for one in known if one.score is not None]
        score = Sample.of(scores).text("{:.3f}") if scores else "-"
        called = map(text, verdicts((over, within)))
        told = [cell for pair in zip(map(_said, (over, within)), called) for cell in pair]
        yield task, [f"minus {measure}" if measure == MEASURES["kl"] else measure, score, sample, above, *told]


def measure_of(trial: Trial, task: str) -> str | None:
    found = specialisation.results(trial.record).get(task)
    return found.measure if found else None


def correlations(by_case: Sequence[Sequence[Trial]]) -> Mapping[str, Both]:
    """By task that was asked: of specialisation with score over all runs, and within cases; None where there is none."""
    tasks = list(dict.fromkeys(task for some in by_case for trial in some for task in trial.routing.tasks))
    level = 1 - (1 - LEVEL) / (2 * len(tasks))
    found = {}
    for task in tasks:
        of_cases = [points(some, task) for some in by_case]
        found[task] = over_cases(of_cases, level), within_cases(of_cases, level)
    return found


def points(trials: Sequence[Trial], task: str) -> list[tuple[float, float]]:
    """(specialisation, score) of the runs that have both."""
    found = [trial.routing.tasks[task] for trial in trials if task in trial.routing.tasks]
    return [(one.specialisation, one.score) for one in found if one.score is not None]


def verdicts(both: Both) -> tuple[str, str]:
    """Over all runs, which takes several cases, and within cases, which takes several seeds of each."""
    over, within = both
    return _verdict(over, over and over.cases, "cases"), _verdict(within, within and within.fewest, "seeds a case")


def _verdict(found: Correlation | None, there: int | None, what: str) -> str:
    """`there`: of what the correlation rests on."""
    if found is None:
        return "no two figures differ, or too few runs"
    if there < MIN_SEEDS:
        return f"{there} {what}: a verdict takes {MIN_SEEDS}"
    if found.low > 0:
        return PREDICTS
    return LOWER if found.high < 0 else f"nothing that {found.runs} runs resolve"


def _said(found: Correlation | None) -> str:
    return "-" if found is None else f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
