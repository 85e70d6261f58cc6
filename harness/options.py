"""The words of a verb that takes plain arguments: argparse, with its mistakes told as every other mistake here."""

import argparse
from typing import NoReturn

from harness.errors import UserError


class Words(argparse.ArgumentParser):
    """`Words("submit")`; `--help` is answered before a verb sees its arguments."""

    def __init__(self, verb: str):
        super().__init__(prog=f"python -m harness {verb}", add_help=False, allow_abbrev=False)
        self.verb = verb

    def error(self, message: str) -> NoReturn:
        """Errors: UserError instead of a usage line and an exit."""
        raise UserError(f"{self.verb}: {message}", f"python -m harness {self.verb} --help shows the words")
