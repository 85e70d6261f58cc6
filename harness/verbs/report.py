"""Makes the leaderboard of a folder of records: LEADERBOARD.md, figures and one page that opens from a file.

usage: python -m harness report [FOLDER ...] [--out FOLDER]
       python -m harness report                        reads results/, writes into results/
       python -m harness report runs --out /tmp/look   what your own runs amount to
       make report [RUN="results runs"] [OUT=results]

Written into the folder after --out: LEADERBOARD.md, index.html, figures/leaderboard-*.png, figures/holders-*.png, and in
history/*.json each board's records as they fell. In a README.md that lies there every passage between "<!-- printed by `make
show RUN=results` -->" and "<!-- end -->" is printed anew (of `make show`, `make compare` of two folders, and `make bench
SET="PART out=FOLDER"` as it was measured). The same records give the same bytes. A record that is corrupt, newer than this
harness, foreign, or whose evidence does not hold is named and left out of the ranking, and the exit status is 1; everything
else is still reported.
"""

import sys
from pathlib import Path

from harness.errors import UserError
from harness.launch.options import FOLDER, PATH, Names, Word, Words

FOLDERS = Names("folder", FOLDER, remedy="name a folder of records, such as results or runs")
WORDS = Words("report", Word("out", PATH, Path("results")), names=FOLDERS)
SUMMARY = "records into LEADERBOARD.md, figures and results/index.html"


def main(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    folders, out = own.names or WORDS.read(["results"]).names, own.out
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder", "name a folder to write into after --out")
    from harness.report.board.gather import gather
    from harness.report.board.publish import publish

    leaderboard = gather(folders)
    if not leaderboard.records and not leaderboard.unreadable:
        raise UserError(f"no record below {', '.join(map(str, folders))}", "make speedrun makes one; make submit files it")
    for path in [*publish(leaderboard, out), *_refreshed(out)]:
        print(f"wrote {path}")
    _say(leaderboard)
    return 0 if leaderboard.holds else 1


def _refreshed(out: Path) -> list[Path]:
    """The page beside the leaderboard, where there is one."""
    from harness.files import replace_atomically
    from harness.report.board.passages import PAGE, refreshed

    page = out / PAGE
    if not page.is_file():
        return []
    text = refreshed(page.read_text(encoding="utf-8"), PRINTERS, page)
    replace_atomically(page, [text.encode()])
    return [page]


def _shown(words: dict[str, str]) -> str:
    from harness.report.compare.summary import summary_table
    from harness.report.groups import find_groups

    return summary_table(find_groups(words["RUN"].split()).ranked)


def _compared(words: dict[str, str]) -> str:
    from harness.report.board.claims import find_claim
    from harness.report.board.passages import block
    from harness.report.compare.contract import contract
    from harness.report.compare.ranking import rank
    from harness.report.compare.text import verdict_text
    from harness.verbs.compare import pair

    a, b = pair(words["A"], words["B"], words.get("SET", "").removeprefix("--hardware "))
    return block(verdict_text(a, contract(a, b, find_claim(a), find_claim(b)), rank(a, b)))


def _benched(words: dict[str, str]) -> str:
    """As it was measured: the file that the command left in its folder."""
    from harness.bench.text import stored
    from harness.reading import parse_json, read_bytes
    from harness.report.board.passages import block

    part, _, out = words["SET"].partition(" out=")
    path = Path(out) / f"{part}.json"
    return block(stored(parse_json(read_bytes(path), path)))


PRINTERS = {"show": _shown, "compare": _compared, "bench": _benched}


def _say(leaderboard) -> None:
    """A summary to read in the terminal; what is wrong goes to stderr, where a CI log shows it apart."""
    from harness.shown import one_line

    rows = sum(len(board.standings) for board in leaderboard.boards)
    print(f"{leaderboard.records} records, {rows} ranked groups on {len(leaderboard.boards)} boards, "
          f"{len(leaderboard.unranked)} groups unranked")  # fmt: skip
    for board in leaderboard.boards:
        holder = board.holder
        held = f"{holder.group.lane} since {holder.since[:10]}" if holder else "nobody: a claim takes three seeds"
        print(f"  {one_line(f'{board.section}, {board.title}: {held}')}")
    for run, reasons in leaderboard.unsound:
        print(one_line(f"evidence does not hold: {run.folder}: {'; '.join(reasons)}"), file=sys.stderr)
    for doubt in leaderboard.doubts:
        print(one_line(f"does not fit together: {doubt}"), file=sys.stderr)
    for problem in leaderboard.unreadable:
        print(one_line(f"skipped: {problem}"), file=sys.stderr)
