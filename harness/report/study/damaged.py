"""What `make damage` found in a run of a study: where it lies, and whether it is of that very run and whole."""

from collections.abc import Iterator
from pathlib import Path

from harness.record.damaged import DAMAGE_FILE, Damage, read_damage, write_damage
from harness.record.run import Run
from harness.record.sealed import SEAL
from harness.report.look_evidence import of_another
from harness.report.study import looked


def look_up(run: Run) -> tuple[Damage | None, str]:
    """What lies in `damage` of a finished run, or beside a copy of its record; or None, and why."""
    return looked.look_up(run, "damage", DAMAGE_FILE, read_damage, _wrong)


def put_damage(found: Damage, folder: Path) -> None:
    """Into the folder of a record's copy, with the same hash."""
    write_damage(folder / DAMAGE_FILE, {name: value for name, value in found.content().items() if name != SEAL})


def _wrong(found: Damage, run: Run) -> Iterator[str]:
    yield from of_another(found.run, run)
    if found.model.moe_layers != run.moe_layers or found.model.experts != run.experts:
        yield f"is of {found.model.experts} experts in layers {found.model.moe_layers}, the run has {run.experts}"
