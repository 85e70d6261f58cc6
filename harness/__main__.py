"""`python -m harness <verb> ...`: the verb is taken off, the rest belongs to it."""

import importlib
import os
import re
import sys

from harness.errors import UserError, nearest
from harness.terminal import shown
from harness.train.determinism import keep_freed_memory, set_environment

VERBS = (
    "speedrun", "plan", "prove", "bench", "tune", "prepare", "lanes", "show", "sample", "prune",
    "submit", "report", "compare", "gate", "verify", "matrix", "track", "sabotage", "probe", "gpu",
    "evaluate", "doctor", "study",
)  # fmt: skip
HELP = ("-h", "--help", "help")


def main(words: list[str]) -> int:
    """Exit status: 0 done, 1 a check failed, 2 a mistake explained, 3 stopped by health, 128+n stopped by signal n. What is
    printed on the way moves no cursor, whoever's words it has."""
    with shown():
        return _main(words)


def _main(words: list[str]) -> int:
    if not words or words[0] in HELP:
        print(overview())
        return 0
    try:
        verb, arguments = words[0], words[1:]
        if verb not in VERBS:
            raise UserError(f"unknown verb {verb!r}", f"{nearest(verb, VERBS)}\n  `python -m harness --help` lists them")
        module = importlib.import_module(f"harness.verbs.{verb}")
        if any(word in HELP[:2] for word in arguments):
            print(f"python -m harness {verb}: {module.SUMMARY}\n{module.__doc__.split(chr(10), 1)[1].rstrip()}")
            return 0
        set_environment()
        keep_freed_memory()
        return module.main(arguments)
    except UserError as error:
        print("error: " + re.sub(r"\n(?! )", "\n  ", str(error)), file=sys.stderr)  # a quoted word begins no line of its own
        return 2
    except BrokenPipeError:  # `... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("interrupted; the last checkpoint stands, the same command goes on from it", file=sys.stderr)
        return 130


def overview() -> str:
    lines = ["python -m harness <verb> [arguments]      (make <verb> does the same in the project's own environment)", ""]
    for verb in VERBS:
        lines.append(f"  {verb:<10}{importlib.import_module(f'harness.verbs.{verb}').SUMMARY}")
    lines += ["", "`python -m harness <verb> --help` shows the arguments and examples of each."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
