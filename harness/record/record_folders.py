"""Where finished runs lie below a folder, and which of them are a study's."""

from collections.abc import Iterable
from pathlib import Path

STUDY_FILE = "study.json"  # marks a folder of records that belong to a study


def record_folders(tops: Iterable[str | Path], studies: bool = False) -> list[Path]:
    """Every folder with a record.json below `tops`, once, in order.

    A study asks what happens to runs that nobody would enter, sick ones among them: its copies of records are left out unless
    `studies`, or the study's own folder is named.
    """
    found: dict[Path, Path] = {}
    for top in map(Path, tops):
        for path in top.rglob("record.json"):
            if studies or not _of_study(path.parent, top):
                found[path.resolve()] = path.parent
    return [found[resolved] for resolved in sorted(found)]


def _of_study(folder: Path, top: Path) -> bool:
    between = [parent for parent in folder.parents if parent != top and top in parent.parents]
    return any((parent / STUDY_FILE).exists() for parent in between)
