"""Answers that are kept as they are found, so that scoring which was cut off goes on instead of starting anew."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from harness.errors import UserError
from harness.evaluate.core.score import Answer, Chunk
from harness.reading import is_there, read_bytes


class Kept:
    """A file of one rank: a first line with `of`, what the answers are of (weights, ranks), then a line a chunk. What is of
    something else, or was cut off, is dropped."""

    def __init__(self, path: Path, of: str):
        self.path, self.found = path, {}
        lines = read_bytes(path).splitlines() if is_there(path) else []
        if lines and lines[0] == json.dumps({"of": of}).encode():
            for line in lines[1:]:
                try:
                    entry = json.loads(line)
                    answers = [Answer(a["index"], tuple(a["means"]), a["choice"], a["correct"]) for a in entry["answers"]]
                    self.found[Chunk(**entry["chunk"])] = answers
                except (ValueError, LookupError, TypeError):  # cut off in the middle of a line
                    break
        self._write([{"of": of}, *(_entry(chunk, answers) for chunk, answers in self.found.items())], "w")

    def keep(self, chunk: Chunk, answers: Sequence[Answer]) -> None:
        """Raises: UserError: the disk is full."""
        self.found[chunk] = list(answers)
        self._write([_entry(chunk, answers)], "a")

    def _write(self, entries: list[dict], mode: str) -> None:
        try:
            with open(self.path, mode) as file:
                file.writelines(json.dumps(entry) + "\n" for entry in entries)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error}", "free some space and run the same command again") from error


def _entry(chunk: Chunk, answers: Sequence[Answer]) -> dict:
    return {"chunk": asdict(chunk), "answers": [asdict(answer) for answer in answers]}
