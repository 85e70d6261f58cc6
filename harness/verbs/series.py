"""Trains families of models grown by one size dial, each point with a complete schedule of its own, and fits what grows how.

usage: python -m harness series                                          lists the series
       python -m harness series NAME [hours=2] [seeds=1,2,3] [key=value ...] [--grid] [--out FOLDER]
       python -m harness series NAME hours=0                              what would be run, and how long it takes; nothing runs
       python -m harness series --from FOLDER                            table and figure again, from the records in FOLDER
       make series NAME=sotu [HOURS=2] [SEEDS=1,2,3] [OUT=results/series/sotu] [SET="key=value ..."]

examples
  make series NAME=sotu HOURS=0
  python -m harness series sotu hours=0.5 seeds=1

A series is a file in studies/series/: a lane, sizes, budgets of training FLOPs, and families that differ in the FFN of a layer
alone. A point is a family, a size and a budget: a run like any other, for as many whole steps as the budget pays. What fits the
hours is run: whole budgets from the smallest on, all sizes, one seed after the other. Seconds are those of runs of the same
model where there are some, else of other sizes, else as counted; they are reckoned again after every run. The same command
again goes on; runs that exist are taken, those in results/ included. When all budgets are there, the points of the largest one,
`ahead`, are predicted, the prediction is written and shown, and then they are run; not with --grid, for whoever runs seeds in
several calls and predicts from all of them in the last one.
Written: RUNS/series-NAME/series.md, series.png, series.json, and study.json, which names the points; prediction.json. --out
FOLDER does so from copies of the records that it puts there, in place of what FOLDER held.
"""

import sys
from pathlib import Path

from harness.errors import UserError
from harness.launch.options import PATH, SEEDS, SWITCH, TEXT, Names, Word, Words, number
from harness.verbs.study import verdicts_of

HOURS = 2.0
WORDS = Words(
    "series", Word("hours", number(0), HOURS), Word("seeds", SEEDS), Word("out", PATH), Word("from", PATH),
    Word("grid", SWITCH), names=Names("series", TEXT), plan=True,
)  # fmt: skip
SUMMARY = "what grows how: families from one size dial, for several budgets, with a law and a prediction"


def main(arguments: list[str]) -> int:
    words = _read(arguments)
    if words.source:
        return _again(words.source)
    from harness.plan.series import read_series

    if words.name is None:
        _list()
        return 0
    return _run(read_series(words.name).with_words(words.plan), words)


def _read(arguments: list[str]):
    words = WORDS.read(arguments)
    words.source, words.name, anything = vars(words)["from"], (words.names or [None])[0], words.names + words.plan
    for word in words.names[1:]:
        raise UserError(f"{word!r} in a series", "a series has one name: NAME hours=2 seeds=1,2,3 key=value")
    if words.source and (anything or words.out or words.seeds or words.grid):
        raise UserError("--from draws what its folder holds", "leave out everything else")
    if not (words.name or words.source) and (anything or words.seeds or words.out):
        raise UserError("no series is named", "`python -m harness series` lists them")
    return words


def _list() -> None:
    from harness.plan.series import read_series, series_names

    width = max(map(len, series_names()), default=0) + 2
    for name in series_names():
        series = read_series(name)
        budgets = ", ".join(f"{budget:.3g}" for budget in series.all_budgets)
        print(f"{name:<{width}}{series.question}")
        print(f"{'':<{width}}{', '.join(series.families)} of {series.lane}, sizes {', '.join(map(str, series.sizes))}, "
              f"{budgets} FLOPs")  # fmt: skip
    print("\nmake series NAME=<series> [HOURS=2]")


def _run(series, words) -> int:
    from harness.launch.evidence import refuse_out, why_kept
    from harness.launch.series.course import Course
    from harness.launch.series.held_out import foretell
    from harness.launch.series.shown_plan import plan_text
    from harness.report.series.folder import publish_series, write_series

    seeds = words.seeds or series.seeds
    course = Course.of(series)
    refuse_out(course.study(), words.out, seeds)
    course.warn()
    grid, all_of = course.fitting(seeds, words.hours or float("inf"), ahead=not words.grid)
    print(plan_text(course, grid, all_of, seeds), flush=True)
    if not words.hours:
        print(f"\nnothing is run with hours=0: make series NAME={series.name} HOURS={HOURS:g}")
        return 0
    left = course.run(grid.runs, words.hours)
    if grid.ahead and not left:
        chosen = foretell(course)
        ahead = [(name, seed) for seed in grid.seeds for name in chosen]
        left = course.run([*ahead, *course.known_ahead(grid.seeds)], words.hours)
    if trials := course.trials():
        study, verdicts = course.study(), verdicts_of(trials)
        written = write_series(study, trials, course.folder, verdicts)
        print(f"\n{written[0].read_text()}\nwritten: {', '.join(map(str, written))}")
        if words.out and (why := why_kept(study, trials, words.out) or _stale(series, trials, course.folder)):
            course.state.complaints.append(f"{words.out} is left as it was: {why}")
        elif words.out:
            published = publish_series(study, trials, words.out, verdicts, course.folder)
            print(f"written: {', '.join(map(str, published))}")
    if left:
        print(f"{len(left)} runs are left, from {left[0][0]} seed {left[0][1]} on: the same command goes on")
    for complaint in course.state.complaints:
        print(f"failed: {complaint}", file=sys.stderr)
    return int(bool(course.state.complaints))


def _stale(series, trials, folder: Path) -> str:
    """Why the prediction in a folder is not of these trials; empty where it is, or where there is none."""
    from harness.report.series import foretold
    from harness.report.series.folder import points_in

    return "; ".join(foretold.problems(foretold.read_foretold(folder), series, points_in(series, trials), trials))


def _again(source: Path) -> int:
    from harness.launch.evidence import asked
    from harness.report.series import foretold
    from harness.report.series.folder import points_in, unpaid, write_series
    from harness.report.study.check import missing_cases, study_problems
    from harness.report.study.folder import read_folder

    study, trials = read_folder(source)
    if not study.series:
        raise UserError(f"{source} holds study {study.name}, no series", f"python -m harness study --from {source}")
    problems = study_problems(study, trials, asked(study, trials))
    problems += unpaid(study.series, trials)
    problems += foretold.problems(foretold.read_foretold(source), study.series, points_in(study.series, trials), trials)
    if problems:
        raise UserError("the evidence does not hold:\n    " + "\n    ".join(problems), "restore it; nothing was drawn")
    if missing := missing_cases(study, trials):
        print(f"warning: {source} has no record of {', '.join(missing)}", file=sys.stderr)
    print(f"written: {', '.join(map(str, write_series(study, trials, source, verdicts_of(trials))))}")
    return 0
