"""What a study wants to know of the inside of its runs: what is there is taken, any other is made by `inspect` or `damage`, in
a process of its own."""

from typing import Any

from harness.launch import child

INSTANCES = 256  # of each task that `inspect` asks, where nobody says how many


def take_or_look(verb: str, name: str, run: Any, complaints: list[str]) -> None:
    """`verb`: see `Study.look`; `name`: what people call the run (RunData); `complaints` gains one where it was not looked into
    afterwards."""
    from harness.report.study.looks import asked

    if not asked(verb, run):
        return
    why = _why_not(verb, run)
    if not why:
        print(f"have {verb} of {name}: {run.folder}", flush=True)
        return
    print(f"\n== {verb} {name}: {why}", flush=True)
    words = ["--instances", str(INSTANCES)] if verb == "inspect" else []
    status = child.run([verb, str(run.folder), *words], errors="passed").status
    if still := _why_not(verb, run):
        complaints.append(f"{name} was not looked into by {verb} (status {status}): {still}")


def _why_not(verb: str, run: Any) -> str:
    """Why what lies there cannot be taken; empty where it can."""
    from harness.report.study import inspection
    from harness.report.study.looks import why_not

    if why := why_not(verb, run):
        return why
    if verb != "inspect":
        return ""
    asked = sorted({task.instances for task in inspection.look_up(run)[0].tasks})
    return "" if asked == [INSTANCES] else f"it was asked {', '.join(map(str, asked))} instances of a task, not {INSTANCES}"
