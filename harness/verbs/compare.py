"""Compares two lanes, records or run folders: the swap contract field by field, and the ranking under each fairness contract.

usage: python -m harness compare A B [--all] [--hardware TEXT] [--out FOLDER]
       make compare A=tiny-dense B=tiny-moe-16e
       make compare A=tiny-dense B=tiny-moe-16e SET="--hardware AMX"
       make compare A=results/tiny-dense B=runs/tiny-moe-16e/1-0123abcd

A lane stands for its ranked runs in results/ and runs/: those of one plan and hardware class, chosen so that both sides share
the class where they can, with the most seeds, then the newest. A folder stands for the runs below it. --hardware leaves only
runs whose hardware class has that text in it. --all prints the fields that agree too.
Writes compare.md, compare.json and compare.png into runs/compare/A-vs-B (or FOLDER), and on a track of tasks tasks.png.
"""

import json
import re
from pathlib import Path

from harness.errors import UserError, nearest
from harness.launch.options import PATH, SWITCH, TEXT, Names, Word, Words

SIDES = Names("lane or folder", TEXT, 2, 2, "python -m harness compare A B: two lanes, records or run folders")
WORDS = Words("compare", Word("all", SWITCH, False), Word("hardware", TEXT, ""), Word("out", PATH), names=SIDES)
SUMMARY = "two lanes or runs: the swap contract, and who is ahead under each fairness contract"
PLACES = ("results", "runs")


def main(arguments: list[str]) -> int:
    from harness.report.board.claims import find_claim
    from harness.report.compare.contract import contract
    from harness.report.compare.figure import draw_compare
    from harness.report.compare.ranking import rank, sentences
    from harness.report.compare.text import as_json, as_markdown, as_text

    words = WORDS.read(arguments)
    a, b = pair(*words.names, words.hardware)
    deal = contract(a, b, find_claim(a), find_claim(b))
    rankings = rank(a, b)
    said = sentences(a, b, rankings, deal.why_not_fair)
    names = (a.lane, b.lane) if a.lane != b.lane else (f"{a.lane} {a.plan_hash[:8]}", f"{b.lane} {b.plan_hash[:8]}")
    print(as_text(a, b, deal, rankings, said, everything=words.all))
    out = words.out or Path(f"runs/compare/{re.sub('[^A-Za-z0-9._-]+', '-', '-vs-'.join(names))}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.md").write_text(as_markdown(a, b, deal, rankings, said))
    (out / "compare.json").write_text(json.dumps(as_json(a, b, deal, rankings, said), indent=1) + "\n")
    draw_compare(a, b, rankings, names, out / "compare.png")
    written = ["compare.md", "compare.json", "compare.png", *_tasks(a, b, out)]
    print(f"\nwritten to {out}: {', '.join(written)}")
    return 0


def _tasks(a, b, out: Path) -> list[str]:
    """Draws what the first seed of each side knows of its tasks, where both were asked the same instances."""
    from harness.report.run.tasks import draw_tasks
    from harness.report.task_scores import scored

    known = [(group.runs[0].name, scored(group.first.evaluations)) for group in (a, b)]
    if None in (found for _, found in known) or len({found.sha256 for _, found in known}) > 1:
        return []
    return [draw_tasks(known, out / "tasks.png").name]


def pair(first: str, second: str, hardware: str = ""):
    """The two groups, of hardware classes with `hardware` in them.

    Raises:
        UserError: there are none, or the two are the same.
    """
    from harness.report.twin import best_pair

    sides = [_groups(first, hardware), _groups(second, hardware)]
    pairs = [(a, b) for a in sides[0] for b in sides[1] if a.runs[0].folder != b.runs[0].folder]
    if not pairs:
        raise UserError(f"{first} and {second} are the same runs", "name two different lanes or run folders")
    return best_pair(pairs)


def _groups(word: str, hardware: str) -> list:
    from harness.plan.lanes import lane_names
    from harness.report.groups import find_groups
    from harness.report.integrity import check

    if word in lane_names():
        groups = [g for g in find_groups(PLACES).ranked if g.lane == word]
        if not groups:
            raise UserError(f"no ranked record of {word} in {' or '.join(PLACES)}", f"make speedrun LANE={word} SEEDS=1,2,3")
    elif Path(word).is_dir():
        found = find_groups([word])
        groups = found.groups
        if not groups:
            raise UserError("; ".join(found.problems) or f"no finished run in {word}", "make speedrun makes one")
    else:
        raise UserError(
            f"{word} is neither a lane nor a folder", f"{nearest(word, lane_names())}\n  `make lanes` lists the lanes"
        )
    classes = sorted({group.hardware_class for group in groups})
    groups = [group for group in groups if hardware in group.hardware_class]
    if not groups:
        raise UserError(f"no run of {word} on hardware with {hardware!r} in its class", "there is " + "; ".join(classes))
    broken = [f"{run.folder}: {sentence}" for group in groups for run in group.runs for sentence in check(run)]
    if broken:
        raise UserError("evidence does not hold:\n    " + "\n    ".join(broken), "restore those records, or name others")
    return groups
