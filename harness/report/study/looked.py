"""What a verb left with a finished run, or beside a copy of its record, as a study asks for it: what it says, or why not."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from harness.errors import UserError
from harness.record.run import Run
from harness.report.look_evidence import found_in

F = TypeVar("F")


def look_up(
    run: Run, folder: str, name: str, read: Callable[..., F], wrong: Callable[[F, Run], Iterator[str]]
) -> tuple[F | None, str]:
    """What `read` makes of it, or None and why. `folder`: that of the run which the verb writes into; `wrong`: what does not
    hold."""
    if (there := found_in(run, folder, name)) is None:
        return None, f"it has no {name}"
    try:
        found = read(there)
    except UserError as error:
        return None, error.problem
    said = "; ".join(wrong(found, run))
    return (None, f"{there} {said}") if said else (found, "")
