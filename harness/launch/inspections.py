"""Inspections that a study asks for: one that is there is taken, any other is made by `inspect`, in a process of its own."""

from typing import Any

from harness.launch import child

INSTANCES = 256  # of each task, where nobody says how many


def take_or_inspect(name: str, run: Any, complaints: list[str]) -> None:
    """`name`: what people call the run (RunData); `complaints` gains one where it is not inspected afterwards."""
    why = _why_not(run)
    if not why:
        print(f"have inspection of {name}: {run.folder}", flush=True)
        return
    print(f"\n== inspect {name}: {why}", flush=True)
    status = child.run(["inspect", str(run.folder), "--instances", str(INSTANCES)], errors="passed").status
    if still := _why_not(run):
        complaints.append(f"{name} is not inspected (status {status}): {still}")


def _why_not(run: Any) -> str:
    """Why no inspection can be taken; empty where one can."""
    from harness.report.study.inspection import look_up

    found, why = look_up(run)
    if found is None:
        return why
    asked = sorted({task.instances for task in found.tasks})
    return "" if asked == [INSTANCES] else f"it was asked {', '.join(map(str, asked))} instances of a task, not {INSTANCES}"
