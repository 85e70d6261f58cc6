"""The one exception that a user is meant to see.

Everything a person can get wrong (a name, a shape, a file, a machine) is raised as `UserError`: what was wrong, the value
found, the value allowed, what to type next. `harness.__main__` prints it without a traceback and exits with status 2.
Broken invariants stay `assert`: they are our mistakes and deserve the traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches

NO_DOWNLOAD = "make speedrun LANE=tiny-moe-16e runs here and downloads nothing"  # what to do where data cannot be had


class UserError(ValueError):
    """What was wrong, and in `remedy` what to type next. `said_elsewhere`: another process of the run tells it to the user."""

    def __init__(self, problem: str, remedy: str = "", said_elsewhere: bool = False):
        super().__init__(f"{problem}\n  {remedy}" if remedy else problem)
        self.problem, self.remedy, self.said_elsewhere = problem, remedy, said_elsewhere


def nearest(word: str, known: Iterable[str]) -> str:
    """The sentence that ends an "unknown name" message: the closest known name, else all of them."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
