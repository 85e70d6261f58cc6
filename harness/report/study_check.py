"""Is what a study's folder holds the evidence of its cases? Asked before it is drawn again from there."""

from collections.abc import Iterator, Sequence

from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash, stored_plan_hash
from harness.plan.study import Study
from harness.report.integrity import check
from harness.report.run_data import load_run
from harness.report.study_runs import Trial


def missing_cases(study: Study, trials: Sequence[Trial]) -> list[str]:
    there = {trial.case for trial in trials}
    return [case for case in study.cases if case not in there]


def study_problems(study: Study, trials: Sequence[Trial]) -> list[str]:
    """A sentence for each trial that is no whole evidence of its case and seed."""
    return [f"{trial.folder}: {problem}" for trial in trials for problem in _problems(study, trial)]


def _problems(study: Study, trial: Trial) -> Iterator[str]:
    if trial.plan["seed"] != trial.seed:
        yield f"its plan has seed {trial.plan['seed']}"
    if trial.record:
        yield from check(load_run(trial.folder))
    try:
        asked = plan_hash(compose(study.words(trial.case)).plan)
    except UserError as error:
        yield f"case {trial.case} can no longer be composed: {error.problem}"
        return
    if stored_plan_hash(trial.plan) != asked:
        yield f"its plan is not that of case {trial.case}"
