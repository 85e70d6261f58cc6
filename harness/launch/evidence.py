"""A study's published folder, seen before it is drawn again or gives way to new runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.study import Study
from harness.record.record_folders import STUDY_FILE
from harness.report.study.check import uninspected
from harness.report.study.folder import read_folder, trials_in
from harness.report.study.trials import Trial


def asked(study: Study, trials: Sequence[Trial]) -> dict[str, str | UserError]:
    """By case that there are trials of: the hash of the plan that the study asks for, or why there is none."""
    found: dict[str, str | UserError] = {}
    for case in dict.fromkeys(trial.case for trial in trials):
        try:
            found[case] = plan_hash(compose(study.words(case)).plan)
        except UserError as error:
            found[case] = error
    return found


def refuse_out(study: Study, out: Path | None, seeds: Iterable[int]) -> None:
    """Before anything is run.

    Raises:
        UserError: the folder is not this study's, or has seeds which would be lost.
    """
    if out is None or not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / STUDY_FILE).exists()):
        raise UserError(f"{out} is no folder of a study", "name one that does not exist yet, or an empty one")
    if any(out.iterdir()) and _called(held := read_folder(out)[0]) != _called(study):
        raise UserError(f"{out} holds {_called(held)}", f"name another folder for {_called(study)}")
    if any(out.iterdir()) and study.series and _shared(held) != _shared(study):
        raise UserError(
            f"{out} holds {_called(held)} with other words: {' '.join(_shared(held))}",
            f"name another folder for {' '.join(_shared(study))}",
        )
    if lost := {seed for _, seed in trials_in(out)} - set(seeds):
        seeds = ",".join(map(str, sorted(lost | set(seeds))))
        raise UserError(f"{out} has seeds {', '.join(map(str, sorted(lost)))} too, which would be lost", f"use seeds={seeds}")


def why_kept(study: Study, trials: Sequence[Trial], out: Path) -> str:
    """Why what a folder holds must not give way to these trials; empty where it may."""
    if lost := sorted(trials_in(out) - {(trial.case, trial.seed) for trial in trials}):
        named = ", ".join(f"{case} seed {seed}" for case, seed in lost)
        return f"it has {named}, of which there is no run now"
    return "; ".join(uninspected(study, trials))


def _shared(study: Study) -> list[str]:
    """Words of all points, but for where and how runs are logged."""
    return [word for word in study.common.split() if not word.startswith("run.")]


def _called(study: Study) -> str:
    return f"{'series' if study.series else 'study'} {study.name}"
