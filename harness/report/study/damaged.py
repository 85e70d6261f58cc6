"""What `make damage` found in a run of a study: where it lies, and whether it is of that very run and whole."""

from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.reading import is_there
from harness.record.damaged import DAMAGE_FILE, Damage, read_damage, write_damage
from harness.record.run import Run
from harness.record.sealed import SEAL
from harness.report.study.inspection import WEIGHTS


def look_up(run: Run) -> tuple[Damage | None, str]:
    """What lies in `damage` of a finished run, or beside a copy of its record; or None, and why."""
    there = [path for path in (run.folder / "damage" / DAMAGE_FILE, run.folder / DAMAGE_FILE) if is_there(path)]
    if not there:
        return None, f"it has no {DAMAGE_FILE}"
    try:
        found = read_damage(there[0])
    except UserError as error:
        return None, error.problem
    wrong = "; ".join(_of_another(found, run))
    return (None, f"{there[0]} {wrong}") if wrong else (found, "")


def put_damage(found: Damage, folder: Path) -> None:
    """Into the folder of a record's copy, with the same hash."""
    write_damage(folder / DAMAGE_FILE, {name: value for name, value in found.content().items() if name != SEAL})


def _of_another(found: Damage, run: Run) -> Iterator[str]:
    record = run.record
    weights = record.artifacts[WEIGHTS].sha256 if WEIGHTS in record.artifacts else None
    for what, its, own in (("plan", found.run.plan_hash, record.plan_hash), ("seed", found.run.seed, record.seed),
                           ("record", found.run.content_sha256, record.content_sha256),
                           ("weights", found.run.weights_sha256, weights)):  # fmt: skip
        if its != own:
            yield f"is of {what} {str(its)[:8]}, the run has {str(own)[:8]}"
    if found.model.moe_layers != run.moe_layers or found.model.experts != run.experts:
        yield f"is of {found.model.experts} experts in layers {found.model.moe_layers}, the run has {run.experts}"
