"""Is what a study's folder holds the evidence of its cases? Asked before it is drawn again from there."""

from collections.abc import Iterator, Sequence

from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash, stored_plan_hash
from harness.plan.study import Study
from harness.report.integrity import check
from harness.report.run_data import load_run
from harness.report.study.trials import Trial


def missing_cases(study: Study, trials: Sequence[Trial]) -> list[str]:
    there = {trial.case for trial in trials}
    return [case for case in study.cases if case not in there]


def study_problems(study: Study, trials: Sequence[Trial]) -> list[str]:
    """A sentence for each trial that is no whole evidence of its case and seed."""
    asked = {case: _asked(study, case) for case in dict.fromkeys(trial.case for trial in trials)}
    return [f"{trial.folder}: {problem}" for trial in trials for problem in _problems(trial, asked[trial.case])]


def _asked(study: Study, case: str) -> str | UserError:
    """The hash of a case's plan, or why there is none."""
    try:
        return plan_hash(compose(study.words(case)).plan)
    except UserError as error:
        return error


def _problems(trial: Trial, asked: str | UserError) -> Iterator[str]:
    if trial.plan["seed"] != trial.seed:
        yield f"its plan has seed {trial.plan['seed']}"
    if trial.record:
        yield from check(load_run(trial.folder))
    if isinstance(asked, UserError):
        yield f"case {trial.case} can no longer be composed: {asked.problem}"
    elif stored_plan_hash(trial.plan) != asked:
        yield f"its plan is not that of case {trial.case}"
