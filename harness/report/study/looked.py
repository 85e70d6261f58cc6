"""A file that a verb left with a finished run, or beside a copy of its record: where it lies, and whether it is of that run."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from harness.errors import UserError
from harness.reading import is_there
from harness.record.inspected import InspectedRun
from harness.record.run import Run

WEIGHTS = "weights.safetensors"
F = TypeVar("F")


def look_up(
    run: Run, folder: str, name: str, read: Callable[..., F], wrong: Callable[[F, Run], Iterator[str]]
) -> tuple[F | None, str]:
    """What `read` makes of it, or None and why. `folder`: that of the run which the verb writes into; `wrong`: what does not
    hold."""
    there = [path for path in (run.folder / folder / name, run.folder / name) if is_there(path)]
    if not there:
        return None, f"it has no {name}"
    try:
        found = read(there[0])
    except UserError as error:
        return None, error.problem
    said = "; ".join(wrong(found, run))
    return (None, f"{there[0]} {said}") if said else (found, "")


def of_another(stated: InspectedRun, run: Run) -> Iterator[str]:
    """A sentence for each thing that names another run."""
    record = run.record
    weights = record.artifacts[WEIGHTS].sha256 if WEIGHTS in record.artifacts else None
    for what, its, own in (("plan", stated.plan_hash, record.plan_hash), ("seed", stated.seed, record.seed),
                           ("record", stated.content_sha256, record.content_sha256),
                           ("weights", stated.weights_sha256, weights)):  # fmt: skip
        if its != own:
            yield f"is of {what} {str(its)[:8]}, the run has {str(own)[:8]}"
