"""A search's folder: table and figure of its ledger, and published with copies of every record.

FOLDER/ledger.json, search.md, search.png, records/RUN/ with the evidence of a run, and what confirmations there are.
"""

import shutil
from pathlib import Path

from harness.errors import UserError
from harness.files import whole
from harness.packed import put_kept
from harness.reading import is_there
from harness.record.confirmation_files import CHAMPION, CONFIRMATIONS, NULLS, read_champion, read_nulls
from harness.record.ledger import LEDGER, Ledger, has_ledger, read_ledger, write_ledger
from harness.record.record import PUBLIC
from harness.report.search.evidence import RECORDS
from harness.report.search.figure import draw_search
from harness.report.search.nulls import NULLS_TABLE, publish_nulls
from harness.report.search.table import search_table

PUBLISHED = {LEDGER, "search.md", "search.png", RECORDS, CONFIRMATIONS, CHAMPION, NULLS, NULLS_TABLE}
EVIDENCE = ("record.json", "stopped.json", "plan.yaml", "identity.json", "metrics.jsonl", PUBLIC)


def write_search(ledger: Ledger, folder: Path) -> list[Path]:
    """Writes the table and the figure beside the ledger; returns their paths."""
    champion = read_champion(folder)
    if champion and champion.space != ledger.name:
        champion = None
    table = folder / "search.md"
    table.write_text("\n".join(search_table(ledger, champion)) + "\n")
    return [table, draw_search(ledger, champion, folder / "search.png")]


def refuse_out(out: Path | None, name: str) -> None:
    """Before anything is run.

    Raises:
        UserError: the folder is not one that this search was published to, or holds what publishing would not put there again.
    """
    if out is None or not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not has_ledger(out)):
        raise UserError(f"{out} is no folder of a search", "name one that does not exist yet, or an empty one")
    if has_ledger(out) and (held := read_ledger(out).name) != name:
        raise UserError(f"{out} holds search {held}", f"name another folder for search {name}")
    if strange := sorted({path.name for path in out.iterdir()} - PUBLISHED):
        raise UserError(
            f"{out} has {', '.join(strange)} too, which would be lost: what it holds is replaced",
            f"name another folder: OUT=results/searches/{name}",
        )


def publish_search(ledger: Ledger, source: Path, folder: Path) -> list[Path]:
    """Puts the ledger, copies of the records it names and what confirmations `source` has in place of what `folder` held, whole
    or not at all; returns the paths of table and figure.

    Raises:
        UserError: no first trial has finished, a record is gone, or `folder` has trials, confirmations or nulls that would be
            lost.
    """
    if not ledger.slopes:
        raise UserError(
            f"search {ledger.name} has no finished first trial, so there is nothing to publish",
            f"make search NAME={ledger.name} HOURS=1 goes on",
        )
    refuse_out(folder, ledger.name)
    _refuse_loss(ledger, source, folder)
    with whole(folder) as part:
        (part / RECORDS).mkdir(parents=True)
        for trial in ledger.trials:
            for rung in trial.rungs:
                if rung.folder is not None and not (part / RECORDS / rung.place).exists():
                    _copy(Path(rung.folder), part / RECORDS / rung.place)
        if (source / CONFIRMATIONS).is_dir():
            shutil.copytree(source / CONFIRMATIONS, part / CONFIRMATIONS, ignore=shutil.ignore_patterns("lock", ".*"))
        if is_there(source / CHAMPION):
            shutil.copyfile(source / CHAMPION, part / CHAMPION)
        if nulls := read_nulls(source):
            publish_nulls(nulls, part)
        write_ledger(part, ledger)
        written = write_search(ledger, part)
        shutil.rmtree(folder, ignore_errors=True)
    return [folder / path.name for path in written]


def _copy(run: Path, place: Path) -> None:
    place.mkdir()
    names = [name for name in EVIDENCE if is_there(run / name)]
    if not {"record.json", "stopped.json"} & set(names):
        raise UserError(f"{run}, which the ledger names, has no record", "restore it, or publish from where the search was run")
    for name in names:
        put_kept(run / name, place)


def _refuse_loss(ledger: Ledger, source: Path, folder: Path) -> None:
    if not has_ledger(folder):
        return
    mine = {(trial.arm, trial.number) for trial in ledger.trials}
    lost = [f"{t.arm} {t.number}" for t in read_ledger(folder).trials if (t.arm, t.number) not in mine]
    judged = [*sorted((folder / CONFIRMATIONS).glob("*.json")), folder / CHAMPION, folder / NULLS]
    names = [str(path.relative_to(folder)) for path in judged if is_there(path)]
    lost += [name for name in names if not is_there(source / name)]
    if lost:
        raise UserError(f"{folder} has {', '.join(lost)} too, which would be lost", "name another folder")
