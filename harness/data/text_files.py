"""The documents in the files of a corpus of text, one after the other, each file read as a stream.

A reader yields the documents of one file as `str`. It keeps nothing: a file of 100 MB needs no more memory than its longest
document. A new corpus in one of these formats needs a track file and no code.
"""

import hashlib
import json
import lzma
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.errors import UserError

TITLE = re.compile(r" = [^=].* = \n")  # of an article, as WikiText writes it; its sections have more equals signs


def jsonl(path: Path, text_sha256: str = "") -> Iterator[str]:
    """The `text` of each line of a JSON Lines file, compressed (.xz) or not.

    Raises: UserError for a line that is no such object, and at the end where the uncompressed bytes have another hash than
    `text_sha256` (if given).
    """
    digest = hashlib.sha256()
    opened = lzma.open(path) if path.suffix == ".xz" else path.open("rb")
    try:
        with opened as file:
            for number, line in enumerate(file, 1):
                digest.update(line)
                yield _text(path, number, line)
    except (lzma.LZMAError, EOFError) as error:
        raise UserError(f"{path} is no whole .xz file: {error}", "delete it and prepare again") from error
    if text_sha256 and digest.hexdigest() != text_sha256:
        raise UserError(
            f"the text of {path} has the wrong sha256: expected {text_sha256}, found {digest.hexdigest()}",
            "delete it and prepare again",
        )


def _text(path: Path, number: int, line: bytes) -> str:
    try:
        return json.loads(line)["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}, line {number}: no JSON object with a text ({type(error).__name__}: {error})", "restore the file"
        ) from error


def parquet(path: Path, text_sha256: str = "") -> Iterator[str]:
    """Articles of a WikiText parquet file, whose rows are lines: one starts at a top-level heading.

    What stands before the first heading belongs to the article that an earlier file began, and is a document of its own.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    assert not text_sha256, "the hash of a parquet file is that of its bytes"
    lines: list[str] = []
    try:
        for batch in ParquetFile(path).iter_batches(columns=["text"]):
            for line in batch.column(0).to_pylist():
                if TITLE.fullmatch(line) and any(map(str.strip, lines)):
                    yield "".join(lines)
                    lines = []
                lines.append(line)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is no parquet file with a column of text: {error}", "delete it and prepare again") from error
    if any(map(str.strip, lines)):
        yield "".join(lines)


READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {"jsonl": jsonl, "parquet": parquet}
