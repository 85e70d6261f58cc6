"""Answers that are kept as they are found, so that scoring which was cut off goes on instead of starting anew."""

import json
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.errors import UserError
from harness.reading import is_there, read_bytes

Chunk = TypeVar("Chunk", bound=Hashable)  # what is answered at once
Answer = TypeVar("Answer")


class Kept(Generic[Chunk, Answer]):
    """A file of one rank: a first line with `of`, what the answers are of (weights, ranks), then a line a chunk. What is of
    something else, or was cut off, is dropped. `as_json` and `of_json`: a chunk with its answers as JSON data, and from them;
    the latter raises ValueError, LookupError or TypeError for what it cannot read."""

    def __init__(
        self, path: Path, of: str, as_json: Callable[[Chunk, Sequence[Answer]], dict[str, Any]],
        of_json: Callable[[Any], tuple[Chunk, list[Answer]]],
    ):  # fmt: skip
        self.path, self.as_json = path, as_json
        self.found: dict[Chunk, list[Answer]] = {}
        lines = read_bytes(path).splitlines() if is_there(path) else []
        if lines and lines[0] == json.dumps({"of": of}).encode():
            for line in lines[1:]:
                try:
                    chunk, answers = of_json(json.loads(line))
                except (ValueError, LookupError, TypeError):  # cut off in the middle of a line
                    break
                self.found[chunk] = answers
        self._write([{"of": of}, *(as_json(*entry) for entry in self.found.items())], "w")

    def keep(self, chunk: Chunk, answers: Sequence[Answer]) -> None:
        """Raises: UserError: the disk is full."""
        self.found[chunk] = list(answers)
        self._write([self.as_json(chunk, answers)], "a")

    def _write(self, entries: list[dict[str, Any]], mode: str) -> None:
        try:
            with open(self.path, mode) as file:
                file.writelines(json.dumps(entry) + "\n" for entry in entries)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error}", "free some space and run the same command again") from error
