"""The files of a search's confirmations and nulls, read and written whole.

    runs/search-NAME/  confirmations/K.json  confirmations/K.ledger.json  champion.json  nulls/FAMILY/N.json  nulls.json

K.ledger.json is the ledger as it was when candidate K was chosen, which is what a claim made of it refers to.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.files import replace_atomically
from harness.reading import is_there, read_json
from harness.record.confirmations import VERSION, Champion, Confirmation, Null, Nulls
from harness.values import Model

CONFIRMATIONS, CHAMPION, NULLS = "confirmations", "champion.json", "nulls.json"
REMEDY = "restore it, or move the folder of the search away: confirmations are never written anew"


def read_confirmations(folder: Path) -> list[Confirmation]:
    """Those in a search's folder, in their order. Raises: UserError where one is damaged, or missing between two others."""
    paths = {int(path.stem): path for path in (folder / CONFIRMATIONS).glob("[0-9]*.json") if path.stem.isdecimal()}
    if lost := sorted(set(range(1, max(paths, default=0) + 1)) - set(paths)):
        raise UserError(f"{folder / CONFIRMATIONS} has no {lost[0]}.json, and later ones", REMEDY)
    return [read_json(paths[number], Confirmation, REMEDY, newest=VERSION) for number in sorted(paths)]


def confirmation_path(folder: Path, number: int) -> Path:
    return folder / CONFIRMATIONS / f"{number}.json"


def frozen_ledger(folder: Path, number: int) -> Path:
    return folder / CONFIRMATIONS / f"{number}.ledger.json"


def write_confirmation(folder: Path, confirmation: Confirmation) -> Path:
    return write(confirmation_path(folder, confirmation.number), confirmation)


def read_champion(folder: Path) -> Champion | None:
    path = folder / CHAMPION
    return read_json(path, Champion, REMEDY, newest=VERSION) if is_there(path) else None


def champion_of(runs: Path, lane: str, hardware_class: str) -> Champion | None:
    """What holds a lane on a class: the newest over all searches below `runs`, since each has beaten the one before it."""
    found = [read_champion(path.parent) for path in sorted(runs.glob(f"search-*/{CHAMPION}"))]
    found = [one for one in found if one and (one.lane, one.hardware_class) == (lane, hardware_class)]
    return max(found, key=lambda one: one.at, default=None)


def seeds_spent(runs: Path, lane: str) -> set[int]:
    """Seeds that confirmations of a lane have had, in all searches below `runs`. Raises: UserError where one is damaged."""
    folders = sorted(path.parent for path in runs.glob(f"search-*/{CONFIRMATIONS}"))
    return {seed for folder in folders for it in read_confirmations(folder) if it.lane == lane for seed in it.seeds}


def null_path(folder: Path, family: str, number: int) -> Path:
    return folder / "nulls" / family / f"{number}.json"


def read_null_files(folder: Path, family: str) -> list[Null]:
    """In their order."""
    paths = sorted((folder / "nulls" / family).glob("[0-9]*.json"), key=lambda path: int(path.stem))
    return [read_json(path, Null, "move it away; its runs are taken again") for path in paths]


def read_nulls(folder: Path) -> Nulls | None:
    path = folder / NULLS
    return read_json(path, Nulls, "the same command writes it anew", newest=VERSION) if is_there(path) else None


def write(path: Path, document: Model) -> Path:
    """Whole or not at all; returns its path."""
    text = document.model_dump_json(exclude_unset=True, indent=1)
    replace_atomically(path, [text.encode(), b"\n"])
    return path


@contextmanager
def held(path: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process holds a lock while the block runs; one that is killed loses it by itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
