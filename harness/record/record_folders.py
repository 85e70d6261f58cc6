"""Where finished runs lie below a folder, and which of them are a study's."""

import os
from collections.abc import Iterable
from pathlib import Path

STUDY_FILE = "study.json"  # marks a folder of records that belong to a study


def record_folders(tops: Iterable[str | Path], studies: bool = False) -> list[Path]:
    """Every folder with a record.json below `tops`, once, in order.

    A study asks what happens to runs that nobody would enter, sick ones among them: its copies of records are left out unless
    `studies`, or the study's own folder is named.
    """
    found: dict[str, Path] = {}
    for top in map(Path, tops):
        for folder, below, files in os.walk(top):
            there, path = {*below, *files}, os.path.join(folder, "record.json")
            if "record.json" in there and os.path.exists(path):  # no link to nothing
                found[os.path.realpath(path)] = Path(folder)
            if STUDY_FILE in there and not studies and Path(folder) != top:
                below.clear()
    return [found[resolved] for resolved in sorted(found, key=lambda path: path.split(os.sep))]
