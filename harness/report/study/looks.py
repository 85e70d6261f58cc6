"""What a study's runs were looked into by: where it lies and whether it holds, by the verb that makes it."""

from pathlib import Path

from harness.record.run import Run
from harness.report.study import damaged, inspection

LOOK_UP = {"inspect": inspection.look_up, "damage": damaged.look_up}
PUT = {"inspect": inspection.put_inspection, "damage": damaged.put_damage}


def why_not(verb: str, run: Run) -> str:
    """Why what lies with a finished run cannot be taken; empty where it can, and of a dense run that has no router."""
    if verb == "damage" and not run.experts:
        return ""
    return LOOK_UP[verb](run)[1]


def put_look(verb: str, run: Run, folder: Path) -> None:
    """Into the folder of a record's copy; nothing of a run that was not looked into."""
    if (verb != "damage" or run.experts) and (found := LOOK_UP[verb](run)[0]):
        PUT[verb](found, folder)
