"""Holds the best trial of a search against what holds the lane, on fresh seeds, and says whether it is the new champion.

usage: python -m harness confirm NAME [family=moe] [trial=moe/tpe/5 | words="KEY=VALUE ..."] [pairs=5] [fit=no]
       python -m harness confirm NAME nulls=50 [family=moe] [pairs=3] [--out FOLDER]
       python -m harness confirm NAME abandon=2                     gives up one that was interrupted, which counts
       python -m harness confirm --from FOLDER                      the verdicts again, from the figures in FOLDER
       make confirm NAME=tiny-open FAMILY=moe [SET="trial=moe/tpe/5 pairs=5"]

examples
  make confirm NAME=tiny-open FAMILY=moe SET="pairs=5"
  make confirm NAME=micro SET="nulls=50"         false alarms of the verdict; several processes may share it
  make confirm NAME=tiny-open FAMILY=dense SET='words="optim.muon.lr=0.05 budget.tokens=900000"'

The candidate is the best complete trial of the family over both samplers, or the one that is named; a plan typed by hand counts
as one more trial. Its budget is fitted to the line and fixed; seeds are fresh, the same on both sides, and run in turns; what
the pairs can find is said before they are run. It is champion if its slice passes the line, its seconds are fewer by a paired
test, its router is healthy, the part of val that no search scored agrees, and no run was disturbed. A tie leaves the incumbent.
Exit status 1: no champion. The same command goes on where it was interrupted. Every attempt stays in
RUNS/search-NAME/confirmations, and counts.
nulls=50 puts the start plan of a family through the same verdict, against itself under other seeds, and prints how often that
is promoted or vetoed. Written: nulls.json in the folder of the search; --out copies it, with the table, to be published.
"""

import os
from pathlib import Path

from harness.errors import UserError
from harness.launch.options import PATH, TEXT, Names, Word, Words, choice, whole

WORDS = Words(
    "confirm", Word("family", TEXT), Word("trial", TEXT), Word("words", TEXT), Word("pairs", whole(1)),
    Word("fit", choice("yes", "no"), "yes"), Word("nulls", whole(1)), Word("abandon", whole(1)), Word("out", PATH),
    Word("from", PATH), names=Names("search", TEXT, most=1, remedy="`python -m harness search` lists them"),
)  # fmt: skip
ASKED = ("family", "trial", "words", "pairs")  # of a candidate
SUMMARY = "the best trial of a search against what holds the lane, on fresh seeds, with a verdict"


def main(arguments: list[str]) -> int:
    words = WORDS.read(arguments)
    words.source, words.name = vars(words)["from"], (words.names or [None])[0]
    if words.source:
        if any(getattr(words, key) is not None for key in ("name", *ASKED, "nulls", "abandon", "out")) or words.fit != "yes":
            raise UserError("--from judges what its folder holds", "leave out everything else")
        return _again(words.source)
    if words.name is None:
        raise UserError("no search is named", "make confirm NAME=tiny-open; `python -m harness search` lists them")
    from harness.launch.search.confirm import storage
    from harness.plan.space import read_space
    from harness.record.confirmation_files import held

    space = read_space(words.name)
    folder = storage(space)
    if words.nulls is not None:
        return _nulls(space, folder, words)
    if words.out:
        raise UserError("--out is of nulls=50 here", f"make search NAME={space.name} OUT=... publishes the confirmations")
    of_lane = folder.parent / f"confirm-{space.lane}.lock"  # a champion has beaten the one before it, of whichever search
    with held(folder / "confirmations" / "lock") as mine, held(of_lane) as alone:
        if not (mine and alone):
            raise UserError(
                f"another process confirms a candidate of {f'lane {space.lane}' if mine else space.name}",
                "wait for it: one at a time has the machine",
            )
        return _confirm(space, folder, words)


def _confirm(space, folder: Path, words) -> int:
    from harness.launch.search.confirm import Course
    from harness.launch.search.confirm_plan import Asked
    from harness.launch.search.pairs import aloud
    from harness.record.confirmation_files import confirmation_path, read_champion
    from harness.record.confirmations import PROMOTED
    from harness.report.search.verdict_text import champion_text, plan_text, verdict_text

    course = Course.of(space, folder, aloud)
    if words.trial is not None and words.words is not None:
        raise UserError("trial and words are two candidates", "leave one of them out")
    if words.abandon is not None and (wrong := [key for key in ASKED if getattr(words, key) is not None]):
        raise UserError(f"{wrong[0]} with abandon={words.abandon}, which gives up what was begun", f"leave {wrong[0]} out")
    if words.abandon is not None:
        given_up = course.abandon(words.abandon)
        print(f"confirmation {given_up.number} of {given_up.candidate.name} is given up after {len(given_up.runs)} pairs")
        return 0
    asked = Asked(words.family, words.trial, words.words, words.pairs, words.fit == "yes")
    begun = course.begin(asked)
    print("\n".join(plan_text(begun)), flush=True)
    judged = course.finish(begun)
    print("\n" + "\n".join([*plan_text(judged)[:1], *verdict_text(judged, course.earlier)]))
    if judged.verdict.outcome == PROMOTED:
        print("\n".join(champion_text(read_champion(folder))))
    print(f"written: {confirmation_path(folder, judged.number)}")
    return 0 if judged.verdict.outcome == PROMOTED else 1


def _nulls(space, folder: Path, words) -> int:
    from harness.launch.search.nulls import NullCourse
    from harness.launch.search.pairs import quietly
    from harness.report.search.nulls import nulls_text, publish_nulls

    if wrong := [key for key in ("trial", "words", "abandon") if getattr(words, key) is not None]:
        raise UserError(f"{wrong[0]} with nulls: they are of a family's start plan", f"leave {wrong[0]} out")
    family = words.family or next(iter(space.families))
    log = quietly(folder / "nulls" / f"{os.getpid()}.log")
    course = NullCourse(space, folder, family, words.pairs or space.confirm.pairs, log)
    for null in course.run(words.nulls):
        told = "; ".join(found.text for found in null.verdict.conditions if not found.holds)
        print(
            f"null {null.number + 1} of {words.nulls} ({family}): {null.verdict.outcome}: {told or 'all conditions hold'}",
            flush=True,
        )
    if (found := course.gather()) is None:
        print("another process is at them: none is there yet")
        return 0
    print(f"\n{nulls_text(found)}")
    written = publish_nulls(found, folder) + (publish_nulls(found, words.out) if words.out else [])
    print(f"written: {', '.join(map(str, written))}")
    return 0


def _again(source: Path) -> int:
    """Judges what a folder holds anew. Raises: UserError where a verdict is not what its figures give."""
    from harness.report.search.again import problems_in

    said, problems = problems_in(source)
    if problems:
        raise UserError("verdicts do not follow from their figures:\n    " + "\n    ".join(problems), "restore the folder")
    print("\n".join(said))
    return 0
