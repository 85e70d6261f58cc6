"""What `inspect`, `damage` and `atlas` left with a finished run, or beside a copy of its record: is it whole, and of that run?

None of it is part of a record, so that a record whose looks are wrong is as good as before: `make verify` names them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.reading import is_there
from harness.record.atlas import ATLAS_FILE, Receipt, read_atlas
from harness.record.damaged import DAMAGE_FILE, read_damage
from harness.record.inspected import INSPECT_FILE, InspectedRun, read_inspected
from harness.record.run import Run

WEIGHTS = "weights.safetensors"


def found_in(run: Run, folder: str, name: str) -> Path | None:
    """`folder`: that of the run which the verb writes into."""
    return next((path for path in (run.folder / folder / name, run.folder / name) if is_there(path)), None)


def looks(run: Run) -> dict[str, list[str]]:
    """{verb: a sentence for each thing that does not hold} of those that left something."""
    readers: dict[str, tuple[str, Callable[[Path], Any], Callable[[Any, Run], Iterator[str]]]] = {
        "inspect": (INSPECT_FILE, read_inspected, lambda found, run: of_another(found.run, run)),
        "damage": (DAMAGE_FILE, read_damage, lambda found, run: of_another(found.run, run)),
        "atlas": (ATLAS_FILE, lambda path: read_atlas(path.parent), _receipt_of_another),
    }
    found: dict[str, list[str]] = {}
    for verb, (name, read, wrong) in readers.items():
        if path := found_in(run, verb, name):
            try:
                found[verb] = [f"{path} {sentence}" for sentence in wrong(read(path), run)]
            except UserError as error:
                found[verb] = [error.problem]
    return found


def of_another(stated: InspectedRun, run: Run) -> Iterator[str]:
    """A sentence for each thing that names another run."""
    record = run.record
    weights = record.artifacts[WEIGHTS].sha256 if WEIGHTS in record.artifacts else None
    yield from _differs(stated, run, ("weights", stated.weights_sha256, weights))


def _receipt_of_another(found: Receipt, run: Run) -> Iterator[str]:
    stated = {taken.step: taken.sha256 for taken in found.index.taken}
    weights = run.record.determinism.weights
    yield from _differs(found.index.run, run, ("weights", stated.get(run.planned_steps), weights))


def _differs(stated: Any, run: Run, weights: tuple[str, str | None, str | None]) -> Iterator[str]:
    record = run.record
    pairs = (
        ("plan", stated.plan_hash, record.plan_hash),
        ("seed", stated.seed, record.seed),
        ("record", stated.content_sha256, record.content_sha256),
        weights,
    )
    for what, its, own in pairs:
        if its != own:
            yield f"is of {what} {str(its)[:8]}, the run has {str(own)[:8]}"
