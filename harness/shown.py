"""Other people's words on a terminal: shown, never obeyed.

A record, a claim or a study may hold anything. A control character in it (an ANSI escape, a carriage return, a mark that turns
the direction of writing) would move the cursor or recolour the screen; here it becomes the escape that names it.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

LIVE = re.compile(r"(?:\r(?:\x1b\[K)?)?")  # how a line that rewrites itself begins: harness/progress.py, tqdm


def printable(value: object) -> str:
    """The text with every character that does not print, but newline and tab, as its escape: ESC becomes \\x1b. What a file
    cannot hold (half a surrogate pair) is among them."""
    lines = str(value).split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_printable, line)) for line in lines)


def _printable(character: str) -> str:
    return character if character.isprintable() or character == "\t" else character.encode("unicode_escape").decode()


def one_line(value: object) -> str:
    """The printable text on one line, blanks and newlines as single blanks: it cannot pass for a line of its own."""
    return " ".join(printable(value).split())


class Shown:
    """A text stream that sends `printable` text alone; the rest is the stream behind it. A line may still rewrite itself."""

    def __init__(self, stream: TextIO):
        self._stream, self._may_rewrite = stream, True

    def write(self, text: str) -> int:
        live = LIVE.match(text)[0] if self._may_rewrite else ""
        self._stream.write(live + printable(text[len(live) :]))
        if text:
            self._may_rewrite = bool(live) or text.endswith("\n")
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def shown() -> Iterator[None]:
    """stdout and stderr as `Shown`, where there are any."""
    out, err = (stream and Shown(stream) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield
