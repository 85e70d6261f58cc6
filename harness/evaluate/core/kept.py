"""Answers to CORE, kept while it is scored."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.evaluate.core.score import Answer, Chunk
from harness.evaluate.kept import Kept


def kept(path: Path, of: str) -> Kept[Chunk, Answer]:
    return Kept(path, of, _as_json, _of_json)


def _as_json(chunk: Chunk, answers: Sequence[Answer]) -> dict[str, Any]:
    return {"chunk": asdict(chunk), "answers": [asdict(answer) for answer in answers]}


def _of_json(entry: Any) -> tuple[Chunk, list[Answer]]:
    answers = [Answer(a["index"], tuple(a["means"]), a["choice"], a["correct"]) for a in entry["answers"]]
    return Chunk(**entry["chunk"]), answers
