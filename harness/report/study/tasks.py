"""What the cases of a study score on the tasks of their track, and what a dial changes of it, task by task.

A task's figure is `TaskResult.measure` over training's difficulties: the share of whole answers, of which more is better, or KL
from the exact distribution in nats per answer, of which less is. A dial is compared with its family's own case, or with the
first case, at equal seeds.
"""

from collections.abc import Mapping, Sequence

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import LEVEL, MIN_SEEDS, Sample
from harness.report.study.families import between, dials, resolved
from harness.report.study.trials import Trial
from harness.report.task_scores import UNITS, TaskResult, by_task, of_groups, scored

Changes = dict[str, dict[int, float]]  # by task: {seed: change}


def results(trial: Trial) -> dict[str, TaskResult]:
    """By task; empty of a run without such scores."""
    found = scored(trial.record.evaluations) if trial.record else None
    return {task.name: task for task in by_task(found)} if found else {}


def values(trial: Trial) -> dict[str, float]:
    """By task: its figure, of those that have difficulties of training."""
    return {name: value for name, task in results(trial).items() if (value := task.mean(True)) is not None}


def measures(trials: Sequence[Trial]) -> dict[str, str]:
    """By task its measure, in the order of the plans."""
    return {name: task.measure for trial in trials for name, task in results(trial).items()}


def changes(trials: Sequence[Trial], base: str, case: str) -> Changes:
    """What `case` has more than `base`, at seeds that both have."""
    of_base = {trial.seed: values(trial) for trial in trials if trial.case == base}
    found: Changes = {}
    for trial in trials:
        if trial.case == case and trial.seed in of_base:
            for task, value in values(trial).items():
                if task in of_base[trial.seed]:
                    found.setdefault(task, {})[trial.seed] = value - of_base[trial.seed][task]
    return found


def task_tables(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none where no run has scores of tasks."""
    found = [(trial.case, scored(trial.record.evaluations)) for trial in trials if trial.record]
    header, rows = of_groups((case, [one for name, one in found if one and name == case]) for case in study.cases)
    if not rows:
        return []
    lines = [
        "", text(f"Tasks: {'; '.join(UNITS[measure] for measure in UNITS)}; mean ± sd over seeds, beyond training's "
                 "difficulties in parentheses."),
        "", *head(list(map(text, ("case", *header[1:])))), *(row(map(text, cells)) for cells in rows),
    ]  # fmt: skip
    tasks = measures(trials)
    tables = [table for table in _tables(study, trials, tasks) if table[1]]
    if not tables:
        return lines
    cells = [cell for _, table in tables for _, of_dial in table for cell in of_dial.values()]
    told = sum(resolved(cell) for cell in cells)
    lines += ["", text(
        f"What a dial changes of a task at equal seeds: mean, and its {LEVEL:.0%} interval; of KL less is better. Bold: the "
        f"interval leaves 0 out, with {MIN_SEEDS} seeds or more. That is so of {told} among {len(cells)} cells, where chance "
        f"alone would have it of about {(1 - LEVEL) * len(cells):.0f}."
    )]  # fmt: skip
    for label, table in tables:
        lines += ["", *head(list(map(text, (label, *tasks))))]
        lines += [row([text(dial), *(_said(of_dial.get(task)) for task in tasks)]) for dial, of_dial in table]
    return lines


Table = list[tuple[str, dict[str, Sample]]]  # by dial: {task: changes over seeds}


def _tables(study: Study, trials: Sequence[Trial], tasks: Mapping[str, str]) -> list[tuple[str, Table]]:
    """(label, table) by family, and of two families what the second one's changes are over the first one's."""
    found, by_family = [], {}
    for family, (base, cases) in dials(study).items():
        by_family[family] = {dial: changes(trials, base, case) for dial, case in cases.items()}
        of_dials = [(dial, _sampled(changed)) for dial, changed in by_family[family].items() if changed]
        found.append((f"in {family}" if family else f"against {base}", of_dials))
    if len(by_family) == 2:
        (first, one), (second, other) = by_family.items()
        found.append((f"{second} minus {first}", [
            (dial, _sampled(between)) for dial in one if (between := _between(one[dial], other[dial]))
        ]))  # fmt: skip
    return found


def _between(one: Changes, other: Changes) -> Changes:
    return {task: between(one[task], other[task]) for task in one if task in other and one[task].keys() & other[task].keys()}


def _sampled(changed: Changes) -> dict[str, Sample]:
    return {task: Sample.of(list(by_seed.values())) for task, by_seed in changed.items()}


def _said(sample: Sample | None) -> str:
    if sample is None:
        return "-"
    bounds = sample.interval()
    said = f"{sample.mean:+.3f}" + (f" ({bounds[0]:+.3f} to {bounds[1]:+.3f})" if bounds else "")
    return f"**{said}**" if resolved(sample) else said
