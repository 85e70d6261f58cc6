"""What commands print, kept up to date in a page that people write: README.md of the folder of records.

A passage stands between two marks, the first of which names the command: "<!-- printed by `make show RUN=results` -->" and
"<!-- end -->". Nobody types or pastes what is in between.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from harness.errors import UserError

PAGE = "README.md"
_PASSAGE = re.compile(r"(<!-- printed by `(?P<command>[^`]+)` -->\n).*?(<!-- end -->)", re.DOTALL)

Printers = dict[str, Callable[[dict[str, str]], str]]  # what a make target prints as Markdown, of the words NAME=value after it


def refreshed(text: str, printers: Printers, where: Path) -> str:
    """The page with every passage as its command prints it today. Raises: UserError for a command that is none of these."""

    def printed(passage: re.Match[str]) -> str:
        make, target, *words = shlex.split(passage["command"])
        if make != "make" or target not in printers or not all("=" in word for word in words):
            raise UserError(
                f"{where} has a passage printed by `{passage['command']}`",
                f"passages may be printed by: {', '.join(f'make {known} NAME=value' for known in printers)}",
            )
        given = dict(word.split("=", 1) for word in words)
        try:
            said = printers[target](given).strip().replace("<!--", "< !--")  # no word of a record ends a passage
        except KeyError as error:
            raise UserError(f"{where} has a passage printed by `{passage['command']}`", f"add {error.args[0]}=...") from error
        return f"{passage[1]}{said}\n{passage[3]}"

    return _PASSAGE.sub(printed, text)


def block(text: str) -> str:
    """Text of fixed width as Markdown shows it."""
    return f"```\n{text}\n```"
