"""Grades from a file, whoever made them: every way in which they do not match the documents is named."""

import hashlib
import json

import pytest

from harness.data.grades import digest, line, read_grades
from harness.data.texts.document import Document
from harness.errors import UserError

DOCUMENTS = {"one": [Document("a", b"first"), Document("b#1", "zwölf".encode())], "two": [Document("a", b"other")]}
LINES = [line(name, document, 1.5 + at) for name, some in DOCUMENTS.items() for at, document in enumerate(some)]


def read(tmp_path, lines, sha256=None, documents=DOCUMENTS, seed=1):
    path = tmp_path / "grades.jsonl"
    content = "".join(lines).encode()
    path.write_bytes(content)
    return read_grades(str(path), hashlib.sha256(content).hexdigest() if sha256 is None else sha256, documents, seed)


def refusal(tmp_path, lines, **words) -> UserError:
    with pytest.raises(UserError) as error:
        read(tmp_path, lines, **words)
    return error.value


def test_what_is_written_is_read(tmp_path):
    assert read(tmp_path, LINES) == {("one", "a"): 1.5, ("one", "b#1"): 2.5, ("two", "a"): 1.5}


def test_other_keys_and_grades_of_other_documents_are_left_alone(tmp_path):
    more = json.dumps({"source": "three", "document": "x", "sha256": "0" * 16, "grade": 7, "by": "somebody"}) + "\n"
    assert read(tmp_path, [*LINES[::-1], more]) == read(tmp_path, LINES)


def test_a_file_may_hold_grades_of_a_document_under_several_seeds(tmp_path):
    noise = Document("a", b"noise in its place")
    both = [*LINES, line("one", noise, -3.0)]
    assert read(tmp_path, both)["one", "a"] == 1.5
    assert read(tmp_path, both, documents={"one": [noise]}) == {("one", "a"): -3.0}


def test_lines_of_another_seed_are_left_alone(tmp_path):
    name, document = "one", DOCUMENTS["one"][0]
    both = [*LINES[1:], line(name, document, 7.0, seed=1), line(name, document, 8.0, seed=2)]
    assert [read(tmp_path, both, seed=seed)[name, document.key] for seed in (1, 2)] == [7.0, 8.0]
    with pytest.raises(UserError, match="has no grade of 1 of 3 documents"):
        read(tmp_path, both, seed=3)
    with pytest.raises(UserError, match="a second grade of a of one, 8 after 7"):
        read(tmp_path, [*both[:-1], line(name, document, 8.0, seed=1)])


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="none.jsonl cannot be read: No such file") as error:
        read_grades(str(tmp_path / "none.jsonl"), "", DOCUMENTS, 1)
    assert "make grade" in error.value.remedy


def test_another_hash_is_refused_with_the_one_found(tmp_path):
    error = refusal(tmp_path, LINES, sha256="0" * 64)
    found = hashlib.sha256("".join(LINES).encode()).hexdigest()
    assert f"has sha256 {found}, data.quality_sha256={'0' * 64}" in error.problem
    assert error.remedy.startswith(f"data.quality_sha256={found}")


WRONG = {
    "no JSON": ("nonsense\n", "line 4: the line: Invalid JSON"),
    "a blank line": ("\n", "line 4: the line: Invalid JSON"),
    "no grade": (LINES[0].replace('"grade"', '"score"'), "line 4: grade: Field required"),
    "a word for a grade": (LINES[0].replace("1.5", '"good"'), "line 4: grade: Input should be a valid number"),
    "a hash of another kind": (LINES[0].replace(digest(DOCUMENTS["one"][0]), "abc"), "line 4: sha256:"),
    "no number": (LINES[0].replace("1.5", "NaN"), "line 4: a grade of nan"),
    "no end": (LINES[0].replace("1.5", "Infinity"), "line 4: a grade of inf"),
    "a second grade": (LINES[0].replace("1.5", "2"), "line 4: a second grade of a of one, 2 after 1.5"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_line_that_is_no_grade_is_refused_by_its_number(tmp_path, name):
    added, problem = WRONG[name]
    assert problem in refusal(tmp_path, [*LINES, added]).problem


def test_a_line_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "grades.jsonl").write_bytes(b"\xff\xfe\n")
    content = hashlib.sha256(b"\xff\xfe\n").hexdigest()
    with pytest.raises(UserError, match="line 1"):
        read_grades(str(tmp_path / "grades.jsonl"), content, DOCUMENTS, 1)


def test_a_document_without_a_grade_is_named(tmp_path):
    error = refusal(tmp_path, LINES[:1])
    assert "has no grade of 2 of 3 documents, the first of them b#1 of one" in error.problem
    assert "make grade" in error.remedy


def test_a_document_with_other_bytes_is_named(tmp_path):
    error = refusal(tmp_path, [*LINES[:2], line("two", Document("a", b"before"), 1.0)])
    assert "has a grade of other bytes of 1 of 3 documents, the first of them a of two" in error.problem
    assert "same data.* and seed" in error.remedy


def test_a_digest_is_of_the_bytes():
    assert digest(DOCUMENTS["one"][0]) == hashlib.sha256(b"first").hexdigest()[:16]
