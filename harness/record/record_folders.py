"""Where finished runs lie below a folder, and which of them are a study's or a search's."""

import os
from collections.abc import Iterable
from pathlib import Path

STUDY_FILE = "study.json"  # marks a folder of records that belong to a study
LEDGER = "ledger.json"  # the same of a search


def record_folders(tops: Iterable[str | Path], studies: bool = False) -> list[Path]:
    """Every folder with a record.json below `tops`, once, in order.

    A study asks what happens to runs that nobody would enter, sick ones among them, and a search keeps its losers: their copies
    of records are left out unless `studies`, or the folder itself is named.
    """
    found: dict[str, Path] = {}
    for top in map(Path, tops):
        for folder, below, files in os.walk(top):
            there, path = {*below, *files}, os.path.join(folder, "record.json")
            if "record.json" in there and os.path.exists(path):  # no link to nothing
                found[os.path.realpath(path)] = Path(folder)
            if {STUDY_FILE, LEDGER} & there and not studies and Path(folder) != top:
                below.clear()
    return [found[resolved] for resolved in sorted(found, key=lambda path: path.split(os.sep))]
