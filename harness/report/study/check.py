"""Is what a study's folder holds the evidence of its cases? Asked before it is drawn again from there."""

from collections.abc import Iterator, Mapping, Sequence

from harness.errors import UserError
from harness.plan.fingerprint import stored_plan_hash
from harness.plan.study import Study
from harness.report.integrity import check
from harness.report.run_data import load_run
from harness.report.study.looks import why_not
from harness.report.study.trials import Trial


def missing_cases(study: Study, trials: Sequence[Trial]) -> list[str]:
    there = {trial.case for trial in trials}
    return [case for case in study.cases if case not in there]


def study_problems(study: Study, trials: Sequence[Trial], asked: Mapping[str, str | UserError]) -> list[str]:
    """A sentence for each trial that is no whole evidence of its case and seed. `asked`: by case the hash of the plan that the
    study asks for, or why there is none."""
    found = [f"{trial.folder}: {problem}" for trial in trials for problem in _problems(trial, asked[trial.case])]
    return found + uninspected(study, trials)


def uninspected(study: Study, trials: Sequence[Trial]) -> list[str]:
    """A sentence for each finished run that was not looked into, of a study that asks what is inside its runs."""
    finished = [trial for trial in trials if trial.record] if study.look else []
    return [f"{trial.folder}: {why}" for trial in finished if (why := why_not(study.look, trial))]


def _problems(trial: Trial, asked: str | UserError) -> Iterator[str]:
    if trial.plan["seed"] != trial.seed:
        yield f"its plan has seed {trial.plan['seed']}"
    if trial.record:
        yield from check(load_run(trial.folder))
    if isinstance(asked, UserError):
        yield f"case {trial.case} can no longer be composed: {asked.problem}"
    elif stored_plan_hash(trial.plan) != asked:
        yield f"its plan is not that of case {trial.case}"
