"""Searches a space for plans that pass a lane's line soonest: TPE beside random draws, in every family, with all trials kept.

usage: python -m harness search                                        lists the spaces
       python -m harness search NAME [hours=1] [trials=24] [--out FOLDER]
       python -m harness search NAME hours=0                            arms, seconds and first draws; nothing runs
       python -m harness search --from FOLDER                           table and figure again, from the records in FOLDER
       make search NAME=tiny-open [HOURS=3] [OUT=results/searches/tiny-open] [SET="trials=24"]

examples
  make search NAME=tiny-open HOURS=0
  python -m harness search tiny-open hours=0.5

A space is a file in studies/spaces/: an open lane, families with the words that they start from, dials with their ranges, and
rungs. Every family is searched by TPE and by random draws, which take turns. A trial is run at each rung: a share of its own
budget with a whole schedule of its own. Of the trials of its arm at a rung the best third goes on. Trials are compared by
equivalent seconds: train_s * exp((slice - line) / slope), with the slope that the family's first trial, its start, has
between its rungs. What passes the line exactly has its own seconds.
The same command again goes on, with trials that were interrupted first, and several processes may share a search. Runs that
exist are taken. Failed and stopped trials stay, and say why. trials=24 is of an arm; all else of a space is fixed once there
are trials of it.
Written: RUNS/search-NAME/ledger.json after every trial, search.md, search.png. --out FOLDER publishes them with copies of all
records, in place of what FOLDER held. make confirm NAME=... makes a champion of a candidate.
"""

import sys
from pathlib import Path

from harness.errors import UserError
from harness.launch.options import PATH, TEXT, Names, Word, Words, number, whole

HOURS = 1.0
WORDS = Words(
    "search", Word("hours", number(0), HOURS), Word("trials", whole(1)), Word("out", PATH), Word("from", PATH),
    names=Names("space", TEXT, most=1, remedy="`python -m harness search` lists them"),
)  # fmt: skip
SUMMARY = "a space of plans, by TPE and at random: who passes the line soonest, all trials kept"


def main(arguments: list[str]) -> int:
    words = WORDS.read(arguments)
    source, name = vars(words)["from"], (words.names or [None])[0]
    if source and (name or words.out or words.trials or words.hours != HOURS):
        raise UserError("--from draws what its folder holds", "leave out everything else")
    if source:
        return _again(source)
    if name is None and (words.out or words.trials):
        raise UserError("no space is named", "`python -m harness search` lists them")
    if name is None:
        return _list()
    from harness.plan.space import read_space

    return _search(read_space(name).with_trials(words.trials), words)


def _list() -> int:
    from harness.plan.space import read_space, space_names

    width = max(map(len, space_names()), default=0) + 2
    for name in space_names():
        space = read_space(name)
        print(f"{name:<{width}}{space.question}")
        rungs = ", ".join(f"{share:g}" for share in space.rungs)
        print(f"{'':<{width}}{', '.join(space.families)} of {space.lane}, {len(space.arms)} arms of {space.trials} trials, "
              f"rungs {rungs}")  # fmt: skip
    print("\nmake search NAME=<space> [HOURS=1]")
    return 0


def _search(space, words) -> int:
    from harness.launch.search.course import Course
    from harness.launch.search.shown_plan import plan_text
    from harness.report.search.folder import publish_search, refuse_out, write_search

    refuse_out(words.out, space.name)
    course = Course.of(space)
    print(plan_text(course, course.trials()), flush=True)
    if not words.hours:
        print(f"\nnothing is run with hours=0: make search NAME={space.name} HOURS={HOURS:g}")
        return 0
    left = course.run(words.hours)
    ledger = course.write()
    written = write_search(ledger, course.folder)
    print(f"\n{written[0].read_text()}\nwritten: {', '.join(map(str, written))}")
    if words.out:
        print(f"written: {', '.join(map(str, publish_search(ledger, course.folder, words.out)))}")
    if left:
        lacking = len(space.arms) * space.trials - ledger.counts.trials + ledger.counts.running
        print(f"{left}: {lacking} trials are left, the same command goes on")
    for family, why in course.closed().items():
        print(f"warning: family {family} has no finished first trial, so its arms are closed: {why}", file=sys.stderr)
    return int(bool(course.closed()))


def _again(source: Path) -> int:
    from harness.record.ledger import read_ledger
    from harness.report.search.evidence import RECORDS, problems_in
    from harness.report.search.folder import write_search

    ledger = read_ledger(source)
    if not (source / RECORDS).is_dir():
        raise UserError(
            f"{source} has no {RECORDS}, which are copied where a search is published",
            f"make search NAME={ledger.name} HOURS=0.01 OUT=results/searches/{ledger.name} publishes it",
        )
    if problems := problems_in(ledger, source):
        raise UserError("the evidence does not hold:\n    " + "\n    ".join(problems), "restore it; nothing was drawn")
    print(f"written: {', '.join(map(str, write_search(ledger, source)))}")
    return 0
