"""`python -m harness <verb> ...`: the verb is taken off, the rest belongs to it."""

import importlib
import re
import signal
import sys
from collections.abc import Callable

from harness.errors import UserError, nearest
from harness.shown import shown
from harness.terminal import hold_streams, unwritten, warn
from harness.train.determinism import keep_freed_memory, set_environment
from harness.train.signals import interruptible, number_of

VERBS = (
    "speedrun", "plan", "prove", "bench", "profile", "tune", "prepare", "grade", "lanes", "show", "sample", "prune",
    "submit", "report", "compare", "gate", "verify", "replay", "matrix", "mlflow", "probe", "gpu",
    "evaluate", "export", "doctor", "inspect", "atlas", "damage", "study", "series", "search", "confirm",
)  # fmt: skip
MOVED = {"track": "python -m harness mlflow", "sabotage": "make sabotage, or python -m tests.sabotage"}
HELP = ("-h", "--help", "help")


def main(words: list[str]) -> int:
    """What `answered` returns."""
    return answered(lambda: _answer(words), heard=words[:1] != ["speedrun"])  # what it does is in its record, whoever listens


def answered(work: Callable[[], int], heard: bool = True) -> int:
    """Exit status: 0 done, 1 a check failed, 2 a mistake explained, 3 stopped by health, 128+n stopped by signal n. What is
    printed on the way moves no cursor, whoever's words it has. `heard`: standard output is what the work is for."""
    hold_streams()
    with shown():
        return _answered(work, heard)


def _answered(work: Callable[[], int], heard: bool) -> int:
    try:
        with interruptible():
            code = work()
    except UserError as error:
        if not error.said_elsewhere:
            warn("error: " + re.sub(r"\n(?! )", "\n  ", str(error)))  # a quoted word begins no line of its own
        code = 2
    except KeyboardInterrupt as interrupted:
        warn("interrupted; the same command goes on from the last checkpoint, or starts anew where there is none")
        code = 128 + number_of(interrupted)
    except OSError:
        if (lost := unwritten("\n")) is None:
            raise
        return _unheard(lost)
    lost = unwritten()
    return code if lost is None or code or not heard else _unheard(lost)


def _answer(words: list[str]) -> int:
    if not words or words[0] in HELP:
        print(overview())
        return 0
    verb, arguments = words[0], words[1:]
    if verb in MOVED:
        raise UserError(f"{verb} has another name now", f"type {MOVED[verb]}")
    if verb not in VERBS:
        raise UserError(f"unknown verb {verb!r}", f"{nearest(verb, VERBS)}\n  `python -m harness --help` lists them")
    module = importlib.import_module(f"harness.verbs.{verb}")
    if any(word in HELP[:2] for word in arguments):
        print(f"python -m harness {verb}: {module.SUMMARY}\n{module.__doc__.split(chr(10), 1)[1].rstrip()}")
        return 0
    set_environment()
    keep_freed_memory()
    return module.main(arguments)


def _unheard(lost: OSError) -> int:
    if isinstance(lost, BrokenPipeError):  # `... | head`: the reader has seen enough
        return 128 + signal.SIGPIPE
    warn(f"error: standard output cannot be written: {lost.strerror}")
    return 2


def overview() -> str:
    lines = ["python -m harness <verb> [arguments]      (make <verb> does the same in the project's own environment)", ""]
    for verb in VERBS:
        lines.append(f"  {verb:<10}{importlib.import_module(f'harness.verbs.{verb}').SUMMARY}")
    lines += ["", "`python -m harness <verb> --help` shows the arguments and examples of each."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
