"""What a study's runs were looked into by: where it lies and whether it holds, by the verb that makes it."""

from pathlib import Path

from harness.record.run import Run
from harness.report.study import damaged, inspection

LOOK_UP = {"inspect": inspection.look_up, "damage": damaged.look_up}
PUT = {"inspect": inspection.put_inspection, "damage": damaged.put_damage}


def asked(verb: str, run: Run) -> bool:
    """Whether there is something to look into: of a dense run no router to interfere with."""
    return verb != "damage" or bool(run.experts)


def why_not(verb: str, run: Run) -> str:
    """Why what lies with a finished run cannot be taken; empty where it can, or where nothing is asked."""
    return LOOK_UP[verb](run)[1] if asked(verb, run) else ""


def put_look(verb: str, run: Run, folder: Path) -> None:
    """Into the folder of a record's copy; nothing of a run that was not looked into."""
    if asked(verb, run) and (found := LOOK_UP[verb](run)[0]):
        PUT[verb](found, folder)
