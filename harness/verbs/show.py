"""Shows finished runs again, from their records.

usage: python -m harness show RUN                the end table; figures drawn anew
       python -m harness show FOLDER [FOLDER ..] every ranked record below, means over seeds, as Markdown
       make show RUN=results
"""

import sys
from pathlib import Path

from harness.errors import UserError

SUMMARY = "finished runs again: one with its figures, or a table over seeds"


def main(arguments: list[str]) -> int:
    from harness.report.groups import find_groups
    from harness.report.summary import summary_table
    from harness.terminal import one_line
    from harness.verbs.speedrun import finish

    paths = [Path(word) for word in arguments or ["runs"]]
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is no folder", "name a run folder, or a folder of runs")
    if len(paths) == 1 and (paths[0] / "record.json").exists():
        finish(paths[0] / "record.json")
        return 0
    found = find_groups(paths)
    for problem in found.problems:
        print(one_line(f"skipped: {problem}"), file=sys.stderr)
    if found.ranked:
        print(summary_table(found.ranked))
    elif not found.problems:
        raise UserError(f"no ranked record below {', '.join(map(str, paths))}", "make speedrun makes one")
    return int(bool(found.problems))
