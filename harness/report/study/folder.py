"""A study's folder: table, figure and numbers, and with `--out` the records they are drawn from.

FOLDER/study.json, study.md, study.png, and FOLDER/CASE/SEED/ with the evidence of a run; of a study that looks into its runs
inspect.json or damage.json too, the former without what neither table nor figure rests on.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.files import whole
from harness.packed import put_kept
from harness.plan.race import RACE
from harness.plan.study import Study, study_of
from harness.reading import is_there, read_json
from harness.record.record import PUBLIC
from harness.record.record_folders import STUDY_FILE
from harness.record.results import NamedStudy, StudyDocument, StudyHead
from harness.report import style
from harness.report.study.doses import draw_doses
from harness.report.study.epochs import draw_epochs
from harness.report.study.foretelling_panels import draw_foretelling
from harness.report.study.formats_panels import draw_formats
from harness.report.study.frame import cases_of
from harness.report.study.load import draw_load
from harness.report.study.looks import put_look
from harness.report.study.occupancy_panels import draw_occupancy
from harness.report.study.part_panels import draw_parts
from harness.report.study.race_panels import draw_race
from harness.report.study.routing import draw_routing
from harness.report.study.rows import draw_cost, draw_rules
from harness.report.study.signal_panels import draw_signal
from harness.report.study.sweep import draw_sweep
from harness.report.study.table import Verdicts, study_table
from harness.report.study.task_panels import draw_tasks
from harness.report.study.time import draw_time
from harness.report.study.trials import Trial, read_trial

Writer = Callable[[Study, Sequence[Trial], Path, Verdicts], list[Path]]
EVIDENCE = ("record.json", "stopped.json", "plan.yaml", "identity.json", "metrics.jsonl", PUBLIC)
DRAWINGS = {
    "load": draw_load, "sweep": draw_sweep, "time": draw_time, "rules": draw_rules, "cost": draw_cost, "tasks": draw_tasks,
    "routing": draw_routing, "epochs": draw_epochs, "doses": draw_doses, "parts": draw_parts, "damage": draw_foretelling,
    "occupancy": draw_occupancy, "formats": draw_formats, "signal": draw_signal, RACE: draw_race,
}  # fmt: skip


def draw_study(study: Study, trials: Sequence[Trial], path: Path) -> Path:
    """The study's figure. All trials are of its lane; at least one."""
    with style.styled():
        return style.save(DRAWINGS[study.figure](study, cases_of(study, trials)), path)


def write_study(study: Study, trials: Sequence[Trial], folder: Path, verdicts: Verdicts) -> list[Path]:
    """Writes the numbers, the table and the figure; returns their paths."""
    numbers, table = write_numbers(study, trials, folder, verdicts), folder / "study.md"
    table.write_text(study_table(study, trials, verdicts) + "\n")
    return [table, draw_study(study, trials, folder / "study.png"), numbers]


def write_numbers(study: Study, trials: Sequence[Trial], folder: Path, verdicts: Verdicts) -> Path:
    """study.json, which says what the folder's records are of."""
    folder.mkdir(parents=True, exist_ok=True)
    of_train = study.figure == "epochs"
    of_race = study.figure == RACE
    numbered = [trial.numbers(verdicts[trial.case, trial.seed], study.look, of_train, of_race) for trial in trials]
    content = StudyDocument(study=NamedStudy(**study.content()), trials=numbered).content()
    numbers = folder / STUDY_FILE
    numbers.write_text(json.dumps(content, indent=None, separators=(",", ":")).replace('{"case"', '\n{"case"') + "\n")
    return numbers


def read_folder(folder: Path) -> tuple[Study, list[Trial]]:
    """The study that a folder holds, its trials from the records in it.

    Raises:
        UserError: it holds none, or one that is damaged.
    """
    path = folder / STUDY_FILE
    if not is_there(path):
        raise UserError(f"{folder} holds no study: it has no {STUDY_FILE}", "make study NAME=... OUT=FOLDER makes one")
    stored = read_json(path, StudyHead, "make study NAME=... OUT=FOLDER makes it anew").study
    study = study_of(stored.name, stored)
    trials = _trials(study, folder)
    if not trials:
        raise UserError(f"{folder} holds no records", "make study NAME=... OUT=FOLDER copies them")
    return study, trials


def trials_in(folder: Path) -> set[tuple[str, int]]:
    """The cases and seeds that a folder has records of."""
    if not folder.is_dir():
        return set()
    return {(case.name, int(place.name)) for case in folder.iterdir() for place in _places(case)}


def publish(
    study: Study, trials: Sequence[Trial], folder: Path, verdicts: Verdicts, write: Writer = write_study,
    beside: Sequence[Path] = (),
) -> list[Path]:  # fmt: skip
    """Puts the evidence of the trials (light files only), files that stand `beside` it, and what is drawn from these copies in
    place of what `folder` held, whole or not at all; returns the paths of `write`."""
    with whole(folder) as part:
        part.mkdir(parents=True)
        for path in beside:
            shutil.copyfile(path, part / path.name)
        for trial in trials:
            place = part / trial.case / str(trial.seed)
            place.mkdir(parents=True)
            for name in EVIDENCE:
                if is_there(trial.folder / name):
                    put_kept(trial.folder / name, place)
            if study.look and trial.record:
                put_look(study.look, trial, place)
        written = write(study, _trials(study, part), part, verdicts)
        shutil.rmtree(folder, ignore_errors=True)
    return [folder / path.name for path in written]


def _trials(study: Study, folder: Path) -> list[Trial]:
    return [read_trial(case, int(place.name), place) for case in study.cases for place in _places(folder / case)]


def _places(case: Path) -> list[Path]:
    return sorted((path for path in case.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))
