"""What a person is told while something goes on, in lines that may get lost: a terminal goes away, a reader leaves, the disk
under a log fills up, and none of that is a reason to lose the work."""

import os
import sys
from typing import TextIO


def tell(text: str, end: str = "\n") -> str | None:
    """To standard output, at once. Returns why it could not be written; None when it was, or when there is none."""
    return _write(sys.stdout, text + end)


def warn(text: str) -> str | None:
    """The same to standard error."""
    return _write(sys.stderr, text + "\n")


def _write(stream: TextIO | None, text: str) -> str | None:
    if stream is None:  # closed from the start
        return None
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError) as error:  # ValueError: closed since, or no way to encode it
        return _reason(error)
    return None


def unwritten(last: str = "") -> OSError | None:
    """Why standard output cannot take what it still holds, and `last`. It is then given up: what it holds goes nowhere, so
    that the interpreter does not fail over it at its end."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.write(last)
        sys.stdout.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return error
    return None


def hold_streams() -> None:
    """Gives descriptors 0, 1 and 2 something to stand for where the caller has closed them: else the next file opened, a
    run's log perhaps, takes the number of standard output, and with it what is meant for a person."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
