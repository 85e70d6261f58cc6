"""A study's folder: table, figure and numbers, and with `--out` the records they are drawn from.

FOLDER/study.json, study.md, study.png, and FOLDER/CASE/SEED/ with the evidence of a run.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from harness.errors import UserError
from harness.plan.study import Study, study_of
from harness.report.record_folders import STUDY_FILE
from harness.report.study_figure import draw_study
from harness.report.study_runs import Trial, read_trial
from harness.report.study_table import Verdicts, study_table

EVIDENCE = ("record.json", "stopped.json", "plan.yaml", "identity.json", "metrics.jsonl")


def write_study(study: Study, trials: Sequence[Trial], folder: Path, verdicts: Verdicts) -> list[Path]:
    """Writes the numbers, the table and the figure; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    numbered = [{**trial.numbers(), "doctor": verdicts[trial.case, trial.seed]} for trial in trials]
    content = {"study": asdict(study), "trials": numbered}
    numbers, table = folder / STUDY_FILE, folder / "study.md"
    numbers.write_text(json.dumps(content, indent=None, separators=(",", ":")).replace('{"case"', '\n{"case"') + "\n")
    table.write_text(study_table(study, trials, verdicts) + "\n")
    return [table, draw_study(study, trials, folder / "study.png"), numbers]


def read_folder(folder: Path) -> tuple[Study, list[Trial]]:
    """The study that a folder holds, its trials from the records in it. Errors: UserError."""
    path = folder / STUDY_FILE
    try:
        content = json.loads(path.read_bytes())["study"]
        name = content["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} holds no study ({error})", "make study NAME=... OUT=FOLDER makes one") from error
    study = study_of(name, content, str(path))
    trials = _trials(study, folder)
    if not trials:
        raise UserError(f"{folder} holds no records", "make study NAME=... OUT=FOLDER copies them")
    return study, trials


def trials_in(folder: Path) -> set[tuple[str, int]]:
    """The cases and seeds that a folder has records of."""
    if not folder.is_dir():
        return set()
    return {(case.name, int(place.name)) for case in folder.iterdir() for place in _places(case)}


def publish(study: Study, trials: Sequence[Trial], folder: Path, verdicts: Verdicts) -> list[Path]:
    """Puts the evidence of the trials (light files only) and what is drawn from these copies in place of what `folder` held,
    whole or not at all; returns the paths of `write_study`."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for trial in trials:
        place = part / trial.case / str(trial.seed)
        place.mkdir(parents=True)
        for name in EVIDENCE:
            if (trial.folder / name).exists():
                shutil.copyfile(trial.folder / name, place / name)
    written = write_study(study, _trials(study, part), part, verdicts)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return [folder / path.name for path in written]


def _trials(study: Study, folder: Path) -> list[Trial]:
    return [read_trial(case, int(place.name), place) for case in study.cases for place in _places(folder / case)]


def _places(case: Path) -> list[Path]:
    return sorted((path for path in case.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))
