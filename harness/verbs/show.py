"""Shows finished runs again, from their records.

usage: python -m harness show RUN                the end table; figures drawn anew
       python -m harness show FOLDER [FOLDER ..] every ranked record below, means over seeds, as Markdown
       make show RUN=results
"""

import sys
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.launch.options import FOLDER, Names, Words
from harness.terminal import warn

WORDS = Words("show", names=Names("folder", FOLDER, remedy="name a run folder, or a folder of runs"))
SUMMARY = "finished runs again: one with its figures, or a table over seeds"


def main(arguments: list[str]) -> int:
    from harness.reading import is_there
    from harness.report.compare.summary import summary_table
    from harness.report.groups import find_groups
    from harness.shown import one_line

    paths = WORDS.read(arguments or ["runs"]).names
    if len(paths) == 1 and is_there(paths[0] / "record.json"):
        _show(paths[0])
        return 0
    found = find_groups(paths)
    for problem in found.problems:
        print(one_line(f"skipped: {problem}"), file=sys.stderr)
    if found.ranked:
        print(summary_table(found.ranked))
    elif not found.problems:
        raise UserError(f"no ranked record below {', '.join(map(str, paths))}", "make speedrun makes one")
    return int(bool(found.problems))


def _show(folder: Path) -> None:
    """Raises: UserError where its files cannot be read, or the figures not be written; the table is printed before."""
    from harness.report.run.draw import draw_all
    from harness.report.run.table import end_table
    from harness.report.run_data import load_run

    done = load_run(folder)
    twin = _twin(done)
    print(f"\n{end_table(done, twin)}\n", flush=True)
    try:
        figures = draw_all(folder, twin.folder if twin else None)
    except OSError as error:
        raise UserError(f"the figures cannot be written to {folder}: {error}", "free some space there") from error
    print("figures: " + ", ".join(figure.name for figure in figures) + f" in {folder}")
    print(f"record: {folder / 'record.json'}")


def _twin(done: Any) -> Any:
    """The twin's best run (RunData), if there is one; what cannot be read is said and left out."""
    from harness.report.run_data import load_run
    from harness.report.twin import best_record

    lane, runs = done.plan["lane"]["twin"], done.plan["run"]["folder"]
    found = best_record([runs, "results"], lane, done.record.speed_class) if lane else None
    for sentence in found.unreadable if found else []:
        warn(f"warning: {sentence}")
    if found is None or found.folder is None:
        return None
    try:
        return load_run(found.folder)
    except UserError as error:
        warn(f"warning: the twin is left out: {error.problem}")
        return None
